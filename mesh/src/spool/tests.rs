use std::{convert::Infallible, future::ready};

use proptest::prelude::*;

use super::*;

const SMALL: Limits = Limits { bytes: 4096, frame: 256, segment: 128 };

async fn all(spool: &Spool) -> Vec<Vec<u8>> {
    let mut taken = Vec::new();
    let drained: Result<(), Infallible> = spool
        .drain(|frames| {
            taken.extend(frames);
            ready(Ok(()))
        })
        .await;
    drained.unwrap();
    taken
}

fn files(folder: &Path) -> usize {
    segments(&folder.join("0")).unwrap().len()
}

#[tokio::test]
async fn frames_come_in_order_and_outlive_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path(), SMALL).unwrap();
    let frames: Vec<Vec<u8>> = (1..40).map(|number: u8| vec![number; usize::from(number)]).collect();
    for frame in &frames {
        spool.append(frame).unwrap();
    }
    assert!(files(folder.path()) > 3);
    drop(spool);
    let spool = Spool::open(folder.path(), SMALL).unwrap();
    assert_eq!(all(&spool).await, frames);
    spool.append(b"more").unwrap();
    assert_eq!(all(&spool).await, [b"more"]);
    assert!(spool.is_empty() && files(folder.path()) <= 1);
    drop(spool);
    assert!(all(&Spool::open(folder.path(), SMALL).unwrap()).await.is_empty(), "what was taken is gone");
}

#[tokio::test]
async fn what_was_not_taken_comes_again() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path(), Limits::default()).unwrap();
    for number in 0..(BATCH + 10) {
        spool.append(&number.to_be_bytes()).unwrap();
    }
    let mut seen = 0;
    let failed = spool
        .drain(|frames| {
            seen += frames.len();
            ready(if seen > BATCH { Err("the ledger went") } else { Ok(()) })
        })
        .await;
    assert_eq!(failed, Err("the ledger went"));
    let left = all(&spool).await;
    assert_eq!(left.len(), 10);
    assert_eq!(left[0], BATCH.to_be_bytes());
}

#[tokio::test]
async fn a_file_that_is_cut_anywhere_gives_what_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits::default();
    let frames = [b"first".to_vec(), b"2".to_vec(), b"the third".to_vec()];
    let spool = Spool::open(folder.path(), limits).unwrap();
    frames.iter().for_each(|frame| spool.append(frame).unwrap());
    drop(spool);
    let path = segments(&folder.path().join("0")).unwrap().remove(0).1;
    let content = fs::read(&path).unwrap();
    let ends = [13, 22, 39];
    assert_eq!(content.len(), 39);
    for cut in 0..=content.len() {
        fs::write(&path, &content[..cut]).unwrap();
        let spool = Spool::open(folder.path(), limits).unwrap();
        let whole = ends.iter().filter(|end| **end <= cut).count();
        assert_eq!(all(&spool).await, frames[..whole], "cut at {cut}");
        // What comes after goes on well.
        spool.append(b"new").unwrap();
        drop(spool);
        assert_eq!(all(&Spool::open(folder.path(), limits).unwrap()).await, [b"new"]);
        let _ = fs::remove_file(&path);
    }
}

#[tokio::test]
async fn a_changed_byte_loses_its_frame_and_no_earlier_one() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits::default();
    let frames = [b"first".to_vec(), b"second".to_vec()];
    let spool = Spool::open(folder.path(), limits).unwrap();
    frames.iter().for_each(|frame| spool.append(frame).unwrap());
    drop(spool);
    let path = segments(&folder.path().join("0")).unwrap().remove(0).1;
    let content = fs::read(&path).unwrap();
    for place in 0..content.len() {
        let mut changed = content.clone();
        changed[place] ^= 0x10;
        fs::write(&path, changed).unwrap();
        let spool = Spool::open(folder.path(), limits).unwrap();
        let whole = usize::from(place >= 13);
        assert_eq!(all(&spool).await, frames[..whole], "changed at {place}");
        drop(spool);
        let _ = fs::remove_file(&path);
    }
}

#[tokio::test]
async fn zeros_at_the_end_of_a_file_are_no_frames() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path(), SMALL).unwrap();
    spool.append(b"first").unwrap();
    assert!(matches!(spool.append(b""), Err(Error::TooLong { bytes: 0, .. })));
    drop(spool);
    let path = segments(&folder.path().join("0")).unwrap().remove(0).1;
    let content = fs::read(&path).unwrap();
    fs::write(&path, [content, vec![0; 4096]].concat()).unwrap();
    assert_eq!(all(&Spool::open(folder.path(), SMALL).unwrap()).await, [b"first"]);
}

#[tokio::test]
async fn a_full_spool_leaves_what_others_left_for_later() {
    let folder = tempfile::tempdir().unwrap();
    let spools = [Spool::open(folder.path(), SMALL).unwrap(), Spool::open(folder.path(), SMALL).unwrap()];
    for spool in &spools {
        while spool.append(&[7; 100]).is_ok() {}
    }
    let all_of_them: usize = spools.iter().map(Spool::len).sum();
    drop(spools);
    let mut taken = 0;
    while taken < all_of_them {
        let spool = Spool::open(folder.path(), SMALL).unwrap();
        let some = all(&spool).await.len();
        assert!(some > 0, "nothing more comes after {taken}");
        taken += some;
    }
}

#[tokio::test]
async fn it_is_bounded_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path(), SMALL).unwrap();
    assert!(matches!(spool.append(&[0; 257]), Err(Error::TooLong { bytes: 257, most: 256 })));
    let mut kept = 0;
    let full = loop {
        match spool.append(&[1; 100]) {
            Ok(()) => kept += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, Error::Full { most: 4096, .. }), "{full}");
    assert_eq!(kept, 4096 / 108);
    assert_eq!(all(&spool).await.len(), kept);
    spool.append(&[1; 100]).unwrap();
}

#[tokio::test]
async fn two_processes_share_a_folder_and_what_one_leaves_the_next_takes_over() {
    let folder = tempfile::tempdir().unwrap();
    let first = Spool::open(folder.path(), SMALL).unwrap();
    let second = Spool::open(folder.path(), SMALL).unwrap();
    first.append(b"of the first").unwrap();
    second.append(b"of the second").unwrap();
    assert_eq!(all(&first).await, [b"of the first"]);
    drop(second);
    drop(first);
    let third = Spool::open(folder.path(), SMALL).unwrap();
    assert_eq!(all(&third).await, [b"of the second"]);
}

#[tokio::test(start_paused = true)]
async fn who_brings_frames_on_is_woken() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path(), SMALL).unwrap();
    // What was there at the start counts as new.
    spool.appended().await;
    let mut waiting = Box::pin(spool.appended());
    assert!(futures::poll!(waiting.as_mut()).is_pending());
    spool.append(b"now").unwrap();
    waiting.await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn nothing_is_lost_nor_comes_twice_whatever_happens(
        steps in prop::collection::vec((0_u8..4, 0_usize..200), 1..60),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let limits = Limits { bytes: 1 << 20, ..SMALL };
        let mut spool = Spool::open(folder.path(), limits).unwrap();
        let mut waiting: VecDeque<Vec<u8>> = VecDeque::new();
        for (number, (action, size)) in steps.into_iter().enumerate() {
            match action {
                0 => {
                    // The process ends, and comes again.
                    drop(spool);
                    spool = Spool::open(folder.path(), limits).unwrap();
                }
                1 => {
                    let taken = runtime.block_on(all(&spool));
                    prop_assert_eq!(taken, waiting.drain(..).collect::<Vec<_>>());
                }
                _ => {
                    let mut frame = vec![number as u8; size];
                    frame.extend(number.to_be_bytes());
                    spool.append(&frame).unwrap();
                    waiting.push_back(frame);
                }
            }
            prop_assert_eq!(spool.len(), waiting.len());
        }
    }
}
