use std::{fs, os::unix::fs::PermissionsExt as _};

use tempfile::TempDir;

use super::*;

fn acme() -> Tenant {
    Tenant::try_new("acme").unwrap()
}

fn agent() -> NewKey {
    NewKey::new(acme(), Role::Agent)
}

fn scope(name: &str) -> Scope {
    Scope::parse(name).unwrap()
}

fn empty() -> (TempDir, PathBuf, Keys) {
    let folder = tempfile::tempdir().unwrap();
    let path = Keys::file_in(folder.path());
    let keys = Keys::open(&path).unwrap();
    (folder, path, keys)
}

/// Writes the file as an editor would.
fn edit(path: &Path, change: impl FnOnce(String) -> String) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let text = fs::read_to_string(path).unwrap_or_default();
    fs::write(path, change(text)).unwrap();
}

#[test]
fn a_key_is_known_until_it_is_revoked_and_survives_a_restart() {
    let (_folder, path, keys) = empty();
    let new = NewKey { label: "first".into(), scopes: vec![scope("knowledge:read")], ..agent() };
    let (id, key) = keys.create(&new).unwrap();
    let grant = Grant { tenant: acme(), role: Role::Agent, scopes: new.scopes };
    assert_eq!(keys.verify(key.expose()), Ok(grant.clone()));

    let again = Keys::open(&path).unwrap();
    assert_eq!(again.verify(key.expose()), Ok(grant));
    assert_eq!(again.list()[0].label, "first");
    assert!(again.revoke(&id).unwrap());
    assert!(!again.revoke(&id).unwrap());
    assert_eq!(again.verify(key.expose()), Err(Rejected::Unknown));
    assert_eq!(Keys::open(&path).unwrap().list(), []);
}

#[test]
fn near_misses_are_not_known() {
    let (_folder, _, keys) = empty();
    let (id, key) = keys.create(&agent()).unwrap();
    let key = key.expose();
    let other = keys.create(&agent()).unwrap().1;
    let swapped = format!("sb_{id}_{}", other.expose().rsplit('_').next().unwrap());
    let longer = format!("{key}0");
    let huge = format!("{key}{}", "0".repeat(1 << 20));
    for wrong in ["", "sb_", "sb__", &key[..key.len() - 1], &longer, &huge, &swapped, &key.to_uppercase()] {
        assert_eq!(keys.verify(wrong), Err(Rejected::Unknown));
    }
}

#[test]
fn the_file_is_private_and_has_no_key_in_it() {
    let (_folder, path, keys) = empty();
    let (_, key) = keys.create(&NewKey { label: "till".into(), ..agent() }).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains("till") && !text.contains(key.expose().rsplit('_').next().unwrap()));
    let mut names = Vec::new();
    for file in fs::read_dir(path.parent().unwrap()).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        names.push(file.file_name().into_string().unwrap());
    }
    names.sort();
    assert_eq!(names, ["keys.json", "keys.json.lock"], "a draft was left behind");
}

#[test]
fn an_expired_key_says_so_to_its_holder_alone() {
    let (_folder, path, keys) = empty();
    let lifetime = Some(Duration::from_secs(3600));
    let (_, key) = keys.create(&NewKey { lifetime, ..agent() }).unwrap();
    assert!(keys.verify(key.expose()).is_ok());
    let info = &keys.list()[0];
    assert_eq!((info.expires_at, info.expired()), (Some(info.created_at + 3600), false));

    let expires = info.expires_at.unwrap().to_string();
    edit(&path, |text| text.replace(&expires, "1"));
    assert!(keys.refresh().unwrap());
    assert_eq!(keys.verify(key.expose()), Err(Rejected::Expired));
    assert_eq!(keys.verify(&format!("{}0", key.expose())), Err(Rejected::Unknown));
    assert!(keys.list()[0].expired());
}

#[test]
fn what_another_process_changes_counts_once_it_is_looked_at() {
    let (_folder, path, here) = empty();
    let there = Keys::open(&path).unwrap();
    let (id, key) = there.create(&agent()).unwrap();
    assert_eq!(here.verify(key.expose()), Err(Rejected::Unknown));
    assert!(here.refresh().unwrap());
    assert!(here.verify(key.expose()).is_ok());
    assert!(!here.refresh().unwrap(), "nothing has changed since");
    assert!(!there.refresh().unwrap(), "one's own change is known");

    there.revoke(&id).unwrap();
    // A change is made to what the file has by then, not to what was read before.
    let (_, mine) = here.create(&agent()).unwrap();
    assert_eq!(here.verify(key.expose()), Err(Rejected::Unknown));
    assert!(there.refresh().unwrap());
    assert!(there.verify(mine.expose()).is_ok());

    fs::remove_file(&path).unwrap();
    assert!(here.refresh().unwrap());
    assert_eq!(here.list(), []);
}

#[test]
fn no_change_is_lost_when_many_write() {
    let (_folder, path, keys) = empty();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let own = Keys::open(&path).unwrap();
                for _ in 0..5 {
                    let (id, _) = own.create(&agent()).unwrap();
                    own.create(&agent()).unwrap();
                    assert!(own.revoke(&id).unwrap());
                }
            });
        }
    });
    keys.refresh().unwrap();
    assert_eq!(keys.list().len(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_watcher_takes_changes_in_and_outlives_a_broken_file() {
    let (_folder, path, keys) = empty();
    let (keys, stop) = (Arc::new(keys), CancellationToken::new());
    let watching = tokio::spawn(Arc::clone(&keys).watch(stop.clone()));
    let (_, first) = Keys::open(&path).unwrap().create(&agent()).unwrap();
    let known = async |key: &Secret| {
        while keys.verify(key.expose()).is_err() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    crate::testing::soon(known(&first)).await;

    let whole = fs::read_to_string(&path).unwrap();
    edit(&path, |text| text[..text.len() / 2].to_owned());
    // By the paused clock: three looks.
    tokio::time::sleep(LOOK_EVERY * 3).await;
    let error = keys.create(&agent()).unwrap_err().to_string();
    assert!(error.contains("keys.json"), "a broken file is not written over: {error}");
    assert!(keys.verify(first.expose()).is_ok(), "what was read before still stands");

    edit(&path, |_| whole);
    let (_, second) = Keys::open(&path).unwrap().create(&agent()).unwrap();
    crate::testing::soon(known(&second)).await;
    assert!(keys.verify(first.expose()).is_ok());
    stop.cancel();
    crate::testing::soon(watching).await.unwrap();
}

#[test]
fn keys_from_before_there_were_roles_open_what_they_opened() {
    let (_folder, path, keys) = empty();
    let key = format!("sb_0123456789abcdef_{}", "a".repeat(64));
    let sha256 = secret::hex(&secret::hash(&key));
    let old = format!(
        r#"{{"keys":[{{"id":"0123456789abcdef","tenant":"acme","sha256":"{sha256}","label":"old","created_at":7}}]}}"#
    );
    edit(&path, |_| old);
    keys.refresh().unwrap();
    let grant = Grant { tenant: acme(), role: Role::Admin, scopes: vec![] };
    assert_eq!(keys.verify(&key), Ok(grant.clone()));

    // The next change writes the new form, in which the role is said.
    keys.create(&agent()).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(r#""version": 2"#) && text.contains(r#""role": "admin""#), "{text}");
    assert_eq!(Keys::open(&path).unwrap().verify(&key), Ok(grant));
}

#[test]
fn a_malformed_file_is_named_with_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let hash = "0".repeat(64);
    let with = |version: &str, tenant: &str, more: &str, sha256: &str| {
        let key = format!(
            r#"{{"id":"a","tenant":"{tenant}",{more}"sha256":"{sha256}","label":"","created_at":0}}"#
        );
        format!(r#"{{"version":{version},"keys":[{key}]}}"#)
    };
    let cases = [
        (String::new(), "EOF"),
        ("[]".into(), "expected"),
        (r#"{"keys":[],"more":1}"#.into(), "more"),
        (with("1", "A B", "", &hash), "a-z"),
        (with("1", "a", "", "é"), "sha256"),
        (with("2", "a", "", &hash), "role is missing"),
        (with("2", "a", r#""role":"king","#, &hash), "customer-app"),
        (with("2", "a", r#""role":"agent","scopes":["everything"],"#, &hash), "knowledge:read"),
        (with("3", "a", r#""role":"agent","#, &hash), "version is 3"),
        (format!(r#"{{"keys":[{}]}}"#, " ".repeat(17 << 20)), "bytes"),
    ];
    for (bad, reason) in cases {
        fs::write(&path, &bad).unwrap();
        let error = Keys::open(&path).err().expect("refused").to_string();
        assert!(error.contains(path.to_str().unwrap()) && error.contains(reason), "{error}");
    }
}

#[test]
fn an_unwritable_place_is_named_and_makes_no_key() {
    let folder = tempfile::tempdir().unwrap();
    let keys = Keys::open(Keys::file_in(folder.path())).unwrap();
    fs::write(folder.path().join("gateway"), "a file, not a folder").unwrap();
    let error = keys.create(&agent()).unwrap_err().to_string();
    assert!(error.contains("keys.json"), "{error}");
    assert_eq!(keys.list(), []);
}

#[test]
fn what_is_asked_of_a_key_is_checked() {
    let (_folder, _, keys) = empty();
    for label in ["a\nb".to_owned(), "x".repeat(129)] {
        assert!(matches!(keys.create(&NewKey { label, ..agent() }), Err(KeysError::Label)));
    }
    for lifetime in [Duration::ZERO, Duration::from_millis(999), LONGEST_LIFETIME + Duration::from_secs(1)] {
        let new = NewKey { lifetime: Some(lifetime), ..agent() };
        assert!(matches!(keys.create(&new), Err(KeysError::Lifetime)));
    }
    let scopes = vec![scope("conversation"), scope("knowledge:write")];
    let error = keys.create(&NewKey { scopes, ..NewKey::new(acme(), Role::CustomerApp) }).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("customer-app") && error.contains("knowledge:write"), "{error}");
    assert!(error.contains("its scopes are conversation, conversation:read, conversation:write"), "{error}");
    assert_eq!(keys.list(), []);
}
