use std::{fs, path::Path};

use super::{fetch::part_of, request::follow, *};
use fake::{COMMIT, Cut, Running, sha256};

#[path = "../../../../tests/it/hub.rs"]
mod fake;

struct Map(Vec<(&'static str, String)>);

impl Environment for Map {
    fn variables(&self) -> Vec<(String, String)> {
        self.0.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    }
}

fn open(url: &str, variables: Vec<(&'static str, String)>) -> Result<Hub, HubError> {
    let settings = config::Hub { endpoint: url.to_owned(), ..config::Hub::default() };
    Hub::open(&settings, &Map(variables))
}

/// A file that is large enough to be kept in the store.
fn weights() -> Vec<u8> {
    (0..200_000_u32).flat_map(|number| number.to_le_bytes()).collect()
}

fn fetch(hub: &Hub, entry: &Entry, place: &Path) -> Result<Fetched, HubError> {
    hub.fetch("acme/small", COMMIT, entry, place, &mut |_| {})
}

fn cut_after(after: usize) -> Cut {
    Cut { path: "onnx/model.onnx", after, stalls: false }
}

fn find(listing: &Listing, path: &str) -> Entry {
    listing.files.iter().find(|file| file.path == path).unwrap().clone()
}

/// A hub with one large file, and what it says of it.
fn one_file() -> (Running, Hub, Entry) {
    let running = Running::start(&[("onnx/model.onnx", &weights())]);
    let hub = open(&running.url, vec![]).unwrap();
    let entry = hub.list("acme/small", "main").unwrap().files.remove(0);
    (running, hub, entry)
}

#[test]
fn files_come_through_the_redirect_and_are_checked() {
    let running = Running::start(&[("config.json", b"{}"), ("onnx/model.onnx", &weights())]);
    let hub = open(&running.url, vec![]).unwrap();
    let listing = hub.list("acme/small", "refs/pr/1").unwrap();
    assert_eq!(listing.commit, COMMIT);
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("deep/model.onnx");
    let fetched = fetch(&hub, &find(&listing, "onnx/model.onnx"), &place).unwrap();
    assert_eq!(fs::read(&place).unwrap(), weights());
    assert_eq!(fetched.checksum, Some(Checksum::Sha256(sha256(&weights()))));
    fetch(&hub, &find(&listing, "config.json"), &folder.path().join("config.json")).unwrap();
    let left: Vec<_> = fs::read_dir(place.parent().unwrap()).unwrap().collect();
    assert_eq!(left.len(), 1, "no part is left");
}

#[test]
fn a_small_file_is_checked_as_git_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hello");
    fs::write(&path, "hello\n").unwrap();
    // `git hash-object` of the same bytes.
    let checksum = Checksum::parse("\"ce013625030ba8dba906f756967f9e9ca394464a\"").unwrap();
    assert!(checksum.is_of(&path).unwrap());
    fs::write(&path, "hello!\n").unwrap();
    assert!(!checksum.is_of(&path).unwrap());
}

#[test]
fn a_cut_transfer_goes_on_where_it_ended() {
    let (running, hub, entry) = one_file();
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("model.onnx");
    *running.hub.cuts.lock().unwrap() = vec![cut_after(300_000)];
    let error = fetch(&hub, &entry, &place).unwrap_err();
    assert!(error.passing(), "{error}");
    let HubError::Cut { got, size, .. } = error else { panic!("{error}") };
    assert!((1..=300_000).contains(&got) && size == 800_000, "{got} of {size}");
    assert!(!place.exists());
    let fetched = fetch(&hub, &entry, &place).unwrap();
    assert_eq!(fetched.resumed, got);
    assert_eq!(fs::read(&place).unwrap(), weights());
    let last = running.seen().pop().unwrap();
    assert_eq!(last.range, Some(format!("bytes={got}-")));
}

#[test]
fn a_hub_that_sends_all_again_is_taken_at_its_word() {
    let (running, hub, entry) = one_file();
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("model.onnx");
    *running.hub.cuts.lock().unwrap() = vec![cut_after(300_000)];
    *running.hub.deaf.lock().unwrap() = true;
    assert!(fetch(&hub, &entry, &place).is_err());
    assert_eq!(fetch(&hub, &entry, &place).unwrap().resumed, 0);
    assert_eq!(fs::read(&place).unwrap(), weights());
}

#[test]
fn bytes_of_another_hash_are_thrown_away() {
    let running = Running::start(&[("onnx/model.onnx", &weights())]);
    *running.hub.wrong.lock().unwrap() = Some("ab".repeat(32));
    let hub = open(&running.url, vec![]).unwrap();
    let entry = hub.list("acme/small", "main").unwrap().files.remove(0);
    let folder = tempfile::tempdir().unwrap();
    let error = fetch(&hub, &entry, &folder.path().join("model.onnx")).unwrap_err();
    assert!(matches!(&error, HubError::Checksum { path, .. } if path == "onnx/model.onnx"), "{error}");
    assert!(!error.passing());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn more_bytes_than_were_told_are_thrown_away() {
    let (running, hub, entry) = one_file();
    running.hub.files.lock().unwrap().get_mut("onnx/model.onnx").unwrap().extend([7; 100]);
    let folder = tempfile::tempdir().unwrap();
    let error = fetch(&hub, &entry, &folder.path().join("model.onnx")).unwrap_err();
    assert!(matches!(error, HubError::Answer { .. }), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn hostile_paths_are_left_out_of_the_list() {
    let running = Running::start(&[("config.json", b"{}")]);
    let hostile = ["../../evil.json", "/etc/evil", "onnx/..\\evil.onnx", ".bashrc"];
    *running.hub.listed.lock().unwrap() = hostile.map(String::from).to_vec();
    let listing = open(&running.url, vec![]).unwrap().list("acme/small", "main").unwrap();
    assert_eq!(listing.files.len(), 1);
    assert_eq!(listing.refused, hostile);
}

#[test]
fn the_token_stays_with_the_hub() {
    let running = Running::start(&[("onnx/model.onnx", &weights())]);
    *running.hub.token.lock().unwrap() = Some("hf_secret".into());
    let hub = open(&running.url, vec![]).unwrap();
    let error = hub.list("acme/small", "main").unwrap_err().to_string();
    assert!(error.contains("HF_TOKEN") && error.contains("acme/small"), "{error}");
    let hub = open(&running.url, vec![("HF_TOKEN", "hf_wrong".into())]).unwrap();
    let error = hub.list("acme/small", "main").unwrap_err().to_string();
    assert!(error.contains("the access token is valid") && !error.contains("hf_wrong"), "{error}");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    fs::write(&file, "hf_secret\n").unwrap();
    let hub = open(&running.url, vec![("HF_TOKEN_PATH", file.display().to_string())]).unwrap();
    let entry = hub.list("acme/small", "main").unwrap().files.remove(0);
    fetch(&hub, &entry, &folder.path().join("model.onnx")).unwrap();
    let seen = running.seen();
    let store = seen.iter().find(|seen| seen.path.starts_with("/store/")).unwrap();
    assert_eq!(store.token, None);
    assert!(seen.iter().any(|seen| seen.path == "onnx/model.onnx" && seen.token.is_some()));
}

#[test]
fn what_the_hub_lacks_is_named() {
    let (_running, hub, entry) = one_file();
    let error = hub.list("acme/none", "v7").unwrap_err();
    assert!(matches!(error, HubError::Unknown { .. }), "{error}");
    assert!(error.to_string().contains("acme/none") && error.to_string().contains("v7"), "{error}");
    let gone = Entry { path: "onnx/gone.onnx".into(), ..entry };
    let folder = tempfile::tempdir().unwrap();
    let error = fetch(&hub, &gone, &folder.path().join("x")).unwrap_err().to_string();
    assert!(error.contains("onnx/gone.onnx"), "{error}");
}

#[test]
fn a_hub_that_is_not_there_is_named_at_once() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", taken.local_addr().unwrap());
    drop(taken);
    let began = std::time::Instant::now();
    let error = open(&url, vec![]).unwrap().list("acme/small", "main").unwrap_err();
    assert!(matches!(&error, HubError::Unreachable { hub, .. } if *hub == url), "{error}");
    assert!(began.elapsed() < CONNECT + Duration::from_secs(2));
}

#[test]
fn settings_that_cannot_be_used_are_named() {
    for (url, variables, wanted) in [
        ("ftp://hub.example", vec![], "hub.endpoint"),
        ("", vec![("HF_ENDPOINT", "nonsense".to_owned())], "HF_ENDPOINT"),
        ("http://hub.example", vec![("HF_TOKEN", "hf_x".to_owned())], "clear text"),
        ("https://hub.example", vec![("HF_TOKEN", "two words".to_owned())], "HF_TOKEN"),
        ("https://hub.example", vec![("HF_TOKEN_PATH", "/nowhere/token".to_owned())], "/nowhere/token"),
        ("https://hub.example", vec![("SSL_CERT_FILE", "/dev/null".to_owned())], "SSL_CERT_FILE"),
        ("https://hub.example", vec![("HTTPS_PROXY", "ftp://u:pw@proxy".to_owned())], "HTTPS_PROXY"),
    ] {
        let error = open(url, variables).err().unwrap().to_string();
        assert!(error.contains(wanted) && !error.contains("pw"), "{error}");
    }
    assert_eq!(open("", vec![]).unwrap().name(), PUBLIC);
    let mirror = vec![("HF_ENDPOINT", "https://mirror.example/hf/".to_owned())];
    assert_eq!(open("", mirror).unwrap().name(), "https://mirror.example/hf");
}

#[test]
fn redirects_never_leave_https() {
    let from: Uri = "https://hub.example/a/b?c".parse().unwrap();
    assert_eq!(follow(&from, "/d?e").unwrap(), "https://hub.example/d?e");
    assert_eq!(follow(&from, "https://store.example/x").unwrap(), "https://store.example/x");
    for bad in ["http://store.example/x", "file:///etc/passwd", "", "\\x"] {
        assert!(follow(&from, bad).is_err(), "{bad}");
    }
}

#[test]
fn parts_of_two_revisions_are_never_put_together() {
    let entry = |digits: &str| Entry {
        path: "onnx/model.onnx".into(),
        size: Some(1),
        checksum: Checksum::parse(&digits.repeat(64)),
    };
    let place = Path::new("m/onnx/model.onnx");
    assert_ne!(part_of(place, &entry("a")), part_of(place, &entry("b")));
    assert_eq!(part_of(place, &entry("a")), Path::new("m/onnx/.model.onnx.aaaaaaaaaaaaaaaa.part"));
}
