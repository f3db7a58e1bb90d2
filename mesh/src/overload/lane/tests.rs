use std::pin::Pin;

use futures::FutureExt as _;
use proptest::prelude::*;

use super::*;
use crate::testing;

type Admission<'a> = Pin<Box<dyn Future<Output = Result<Permit, Refused>> + 'a>>;

/// Calls of one class each, let in or waiting.
#[derive(Default)]
struct Calls<'a> {
    running: Vec<(Class, Permit)>,
    waiting: Vec<(Class, Admission<'a>)>,
}

impl Calls<'_> {
    /// Moves those whose turn has come; who was pushed out is gone.
    fn settle(&mut self) {
        for (class, mut admission) in std::mem::take(&mut self.waiting) {
            match admission.as_mut().now_or_never() {
                Some(Ok(permit)) => self.running.push((class, permit)),
                Some(Err(refused)) => assert_eq!(refused.reason, Reason::PushedOut),
                None => self.waiting.push((class, admission)),
            }
        }
    }
}

proptest! {
    #[test]
    fn it_never_admits_too_many_and_leaves_no_room_unused(
        limit in 1_u32..8,
        queue in 0_u32..6,
        voice_share in prop::sample::select(vec![0.0, 0.2, 0.5]),
        steps in prop::collection::vec((0_usize..3, 0_u8..3, 0_u8..6, any::<prop::sample::Index>()), 1..200),
    ) {
        let config = Config { initial: limit, floor: limit, ceiling: limit, queue, voice_share, ..Config::default() };
        let lane = Lane::new("test".into(), &config);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let _entered = runtime.enter();
        let mut calls = Calls::default();
        for (class, tenant, action, which) in steps {
            let class = CLASSES[class];
            match action {
                0 if !calls.running.is_empty() => {
                    calls.running.swap_remove(which.index(calls.running.len()));
                }
                1 if !calls.waiting.is_empty() => {
                    drop(calls.waiting.swap_remove(which.index(calls.waiting.len())));
                }
                _ => {
                    let call = testing::call(&format!("t{tenant}")).with_class(class);
                    let lane = &lane;
                    let mut admission: Admission<'_> = Box::pin(async move { lane.admit(&call).await });
                    match admission.as_mut().now_or_never() {
                        Some(Ok(permit)) => calls.running.push((class, permit)),
                        Some(Err(refused)) => prop_assert_eq!(refused.reason, Reason::Full),
                        None => calls.waiting.push((class, admission)),
                    }
                }
            }
            calls.settle();
            let state = lane.state();
            prop_assert_eq!(state.total() as usize, calls.running.len());
            prop_assert_eq!(state.queue.len(), calls.waiting.len());
            prop_assert!(state.total() <= limit && state.queue.len() <= queue as usize);
            let kept = (f64::from(limit) * voice_share) as u32;
            let others = calls.running.iter().filter(|(class, _)| *class != Class::Voice).count();
            prop_assert!(others as u32 <= limit - kept);
            for (class, _) in &calls.waiting {
                prop_assert!(!state.has_room(*class, voice_share), "{:?} waits for nothing", class);
            }
        }
        calls.waiting.clear();
        calls.running.clear();
        prop_assert_eq!((lane.in_flight(), lane.waiting()), (0, 0));
    }
}
