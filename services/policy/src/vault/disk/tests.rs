use rusqlite::Connection;
use switchboard_mesh::config::Secret;
use switchboard_text::redaction::redact;

use super::*;
use crate::{config::VaultConfig, vault::Vault};

const A: &str = "a:0101010101010101010101010101010101010101010101010101010101010101";
const B: &str = "b:0202020202020202020202020202020202020202020202020202020202020202";

fn keys(text: &str) -> Keys {
    Keys::parse("policy.vault.keys", &Secret::new(text.into())).unwrap().unwrap()
}

fn vault(folder: &tempfile::TempDir, text: &str) -> Vault {
    let config = VaultConfig { values: 5, ..VaultConfig::default() };
    Vault::stored(config, &folder.path().join("policy").join("vault.sqlite"), keys(text)).unwrap()
}

/// The number in a text that is one placeholder.
fn number(placeholder: &str) -> Option<u32> {
    redaction::placeholders(placeholder).next().map(|(_, placeholder)| placeholder.number)
}

fn acme() -> Tenant {
    Tenant::try_new("acme").unwrap()
}

fn tell(vault: &Vault, tenant: &Tenant, conversation: &str, text: &str) -> String {
    let entities = redaction::find_with_literals(text);
    vault.replace(tenant, conversation, text, &entities).unwrap().text
}

fn database(folder: &tempfile::TempDir) -> Connection {
    Connection::open(folder.path().join("policy").join("vault.sqlite")).unwrap()
}

#[test]
fn what_was_told_is_restored_after_a_restart_and_numbers_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let first = tell(&vault(&folder, A), &acme(), "c1", "jo@home.de");
    let again = vault(&folder, A);
    assert_eq!(again.restore(&acme(), "c1", &first).unwrap().text, "jo@home.de");
    assert_eq!(tell(&again, &acme(), "c1", "Jo@home.de"), first, "the same value has the same placeholder");
    let second = tell(&vault(&folder, A), &acme(), "c1", "al@home.de");
    assert!(number(&second) > number(&first), "{first} {second}");
    // Nor does another kind take a number that was used, since a later value of that kind could.
    let card = tell(&vault(&folder, A), &acme(), "c1", "4111 1111 1111 1111");
    assert!(number(&card) > number(&second), "{second} {card}");
}

#[test]
fn a_value_that_made_room_and_came_again_in_one_text_is_stored_under_its_new_number() {
    let folder = tempfile::tempdir().unwrap();
    let held = vault(&folder, A);
    let first = tell(&held, &acme(), "c1", "jo@home.de");
    // Five are held: the others displace the first, and then it comes again.
    let text = "a@b.de c@d.de e@f.de g@h.de i@j.de jo@home.de";
    let told = tell(&held, &acme(), "c1", text);
    let last = told.rsplit(' ').next().unwrap();
    assert!(number(last) > number(&first), "{first} {told}");
    let again = vault(&folder, A);
    assert_eq!(again.restore(&acme(), "c1", last).unwrap().text, "jo@home.de");
    let next = tell(&again, &acme(), "c1", "al@home.de");
    assert!(number(&next) > number(last), "{told} {next}");
}

#[test]
fn what_was_read_before_it_was_forgotten_is_read_again() {
    for forget in [
        |vault: &Vault| vault.forget(&acme(), "c1").unwrap(),
        |vault: &Vault| vault.forget_value(&acme(), "jo@home.de").unwrap(),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let told = tell(&vault(&folder, A), &acme(), "c1", "jo@home.de");
        let held = vault(&folder, A);
        let before = held.forgets.load(std::sync::atomic::Ordering::Acquire);
        let read = held.disk.as_ref().unwrap().load(&acme(), "c1").unwrap().unwrap();
        forget(&held);
        assert!(held.take_up(&acme(), "c1", read, before).is_none());
        assert_eq!(held.restore(&acme(), "c1", &told).unwrap().missing, 1);
    }
}

#[test]
fn what_was_read_while_it_was_being_forgotten_does_not_stay() {
    let folder = tempfile::tempdir().unwrap();
    let told = tell(&vault(&folder, A), &acme(), "c1", "jo@home.de");
    let held = vault(&folder, A);
    let first = held.find(&acme(), "c1").unwrap().unwrap();
    let uses = || held.shelves()[&acme()].next;
    let before = uses();
    std::thread::scope(|scope| {
        let values = first.lock();
        let forgetting = scope.spawn(|| held.forget(&acme(), "c1").unwrap());
        // It has taken the conversation from the shelf, and waits for its values.
        while uses() == before {
            std::thread::yield_now();
        }
        held.displace(&acme(), "c1");
        assert_eq!(held.restore(&acme(), "c1", &told).unwrap().missing, 0, "read again, not yet forgotten");
        drop(values);
        assert_eq!(forgetting.join().unwrap(), 1);
    });
    assert_eq!(held.restore(&acme(), "c1", &told).unwrap().missing, 1);
}

#[test]
fn a_forgotten_value_is_gone_and_its_placeholder_stands_for_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let held = vault(&folder, A);
    let told = tell(&held, &acme(), "c1", "jo@home.de");
    assert_eq!(held.forget(&acme(), "c1").unwrap(), 1);
    for vault in [&held, &vault(&folder, A)] {
        assert_eq!(vault.restore(&acme(), "c1", &told).unwrap().missing, 1);
    }
    let next = tell(&vault(&folder, A), &acme(), "c1", "al@home.de");
    assert!(number(&next) > number(&told), "{told} {next}");
    let rows: i64 = database(&folder).query_row("SELECT count(*) FROM held", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 1);
    assert_eq!(held.forget(&acme(), "c9").unwrap(), 0);
}

#[test]
fn a_value_is_forgotten_in_each_conversation_of_its_tenant_whatever_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let other = Tenant::try_new("other").unwrap();
    let (before, elsewhere) = {
        let old = vault(&folder, A);
        (tell(&old, &acme(), "c1", "jo@home.de"), tell(&old, &other, "c1", "jo@home.de"))
    };
    let held = vault(&folder, &format!("{B},{A}"));
    let now = tell(&held, &acme(), "c2", "jo@home.de or al@home.de");
    assert_eq!(held.forget_value(&acme(), "JO@HOME.DE").unwrap(), 2);
    let missing = |tenant: &Tenant, conversation: &str, text: &str| {
        vault(&folder, &format!("{B},{A}")).restore(tenant, conversation, text).unwrap().missing
    };
    assert_eq!((missing(&acme(), "c1", &before), missing(&acme(), "c2", &now)), (1, 1));
    assert_eq!(missing(&other, "c1", &elsewhere), 0);
}

#[test]
fn values_are_sealed_anew_with_the_new_key_as_they_are_used() {
    let folder = tempfile::tempdir().unwrap();
    let told = tell(&vault(&folder, A), &acme(), "c1", "jo@home.de");
    let both = vault(&folder, &format!("{B},{A}"));
    assert_eq!(both.restore(&acme(), "c1", &told).unwrap().missing, 0);
    let new = vault(&folder, B);
    assert_eq!(new.restore(&acme(), "c1", &told).unwrap().text, "jo@home.de", "the old key is not needed");
    // Without any key that fits, the value stays shut and its number taken.
    let neither = vault(&folder, A);
    assert_eq!(neither.restore(&acme(), "c1", &told).unwrap().missing, 1);
    assert_ne!(tell(&neither, &acme(), "c1", "al@home.de"), told);
}

#[test]
fn a_row_that_was_moved_does_not_open() {
    let folder = tempfile::tempdir().unwrap();
    let told = tell(&vault(&folder, A), &acme(), "c1", "jo@home.de");
    let place = number(&told).unwrap();
    tell(&vault(&folder, A), &acme(), "c2", "al@home.de");
    for change in [
        "UPDATE held SET conversation = 'c3' WHERE conversation = 'c1'",
        "UPDATE conversations SET conversation = 'c3' WHERE conversation = 'c1'",
    ] {
        database(&folder).execute(change, []).unwrap();
    }
    let restored = vault(&folder, A).restore(&acme(), "c3", &format!("[email-{place}]")).unwrap();
    assert_eq!((restored.missing, restored.restored), (1, 0));
}

#[test]
fn nothing_of_a_value_is_on_the_disk_and_the_file_is_for_its_owner() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let held = vault(&folder, A);
    tell(&held, &acme(), "c1", "Write to periwinkle@home.de");
    let files = std::fs::read_dir(folder.path().join("policy")).unwrap();
    let mut seen = 0;
    for file in files {
        let path = file.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        assert!(!bytes.windows(10).any(|window| window == b"periwinkle"), "{}", path.display());
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o077, 0, "{}", path.display());
        seen += usize::from(bytes.windows(4).any(|window| window == b"acme"));
    }
    assert!(seen > 0, "the rows were looked at");
}

#[test]
fn a_number_that_another_process_took_is_not_used_twice() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (vault(&folder, A), vault(&folder, A));
    let first = tell(&one, &acme(), "c1", "jo@home.de");
    // Both hold the conversation, and neither sees what the other adds.
    assert_eq!(two.restore(&acme(), "c1", &first).unwrap().missing, 0);
    let (second, third) = (tell(&one, &acme(), "c1", "al@home.de"), tell(&two, &acme(), "c1", "bo@home.de"));
    assert_ne!(second, third);
    let all = vault(&folder, A).restore(&acme(), "c1", &format!("{first} {second} {third}")).unwrap();
    assert_eq!(all.text, "jo@home.de al@home.de bo@home.de");
}

#[test]
fn beyond_its_bound_a_conversation_loses_its_oldest_value_on_the_disk_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let held = vault(&folder, A);
    let told: Vec<String> = (0..7).map(|at| tell(&held, &acme(), "c1", &format!("a{at}@home.de"))).collect();
    let again = vault(&folder, A);
    let missing: Vec<usize> =
        told.iter().map(|told| again.restore(&acme(), "c1", told).unwrap().missing).collect();
    assert_eq!(missing, [1, 1, 0, 0, 0, 0, 0]);
}

#[test]
fn what_is_not_used_expires_and_its_numbers_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let told = tell(&vault(&folder, A), &acme(), "c1", "jo@home.de");
    database(&folder).execute("UPDATE conversations SET used_at = used_at - 90000", []).unwrap();
    let disk = Disk::open(&folder.path().join("policy").join("vault.sqlite"), keys(A), 5).unwrap();
    assert_eq!(disk.expire(Duration::from_secs(100_000)).unwrap(), 0);
    assert_eq!(disk.expire(Duration::from_secs(80_000)).unwrap(), 1);
    let next = tell(&vault(&folder, A), &acme(), "c1", "al@home.de");
    assert!(number(&next) > number(&told));
}

#[test]
fn a_use_keeps_what_would_have_expired() {
    let folder = tempfile::tempdir().unwrap();
    let told = tell(&vault(&folder, A), &acme(), "c1", "jo@home.de");
    database(&folder).execute("UPDATE conversations SET used_at = used_at - 90000", []).unwrap();
    let held = vault(&folder, A);
    assert_eq!(held.restore(&acme(), "c1", &told).unwrap().missing, 0);
    let disk = Disk::open(&folder.path().join("policy").join("vault.sqlite"), keys(A), 5).unwrap();
    assert_eq!(disk.expire(Duration::from_secs(80_000)).unwrap(), 0);
}

#[test]
fn a_text_without_conversation_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let held = vault(&folder, A);
    let told = tell(&held, &acme(), "", "jo@home.de");
    assert_eq!(told, redact("jo@home.de", &mut Pseudonyms::default()).text);
    let rows: i64 = database(&folder).query_row("SELECT count(*) FROM held", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 0);
}

#[test]
fn a_text_whose_values_cannot_be_stored_does_not_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let held = vault(&folder, A);
    tell(&held, &acme(), "c1", "jo@home.de");
    database(&folder).execute_batch("DROP TABLE held").unwrap();
    let text = "al@home.de";
    let entities = redaction::find(text);
    assert!(held.replace(&acme(), "c1", text, &entities).is_err());
    assert!(held.replace(&acme(), "c1", text, &entities).is_err(), "nor the second time");
}

#[test]
fn a_newer_or_broken_file_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    drop(vault(&folder, A));
    database(&folder).pragma_update(None, "user_version", 99).unwrap();
    let path = folder.path().join("policy").join("vault.sqlite");
    let open = || Vault::stored(VaultConfig::default(), &path, keys(A)).unwrap_err().to_string();
    assert!(open().contains("version 99") && open().contains("vault.sqlite"), "{}", open());
    let other = folder.path().join("other");
    std::fs::write(&other, "no database at all, but long enough to be taken for one: ".repeat(50)).unwrap();
    let error = Vault::stored(VaultConfig::default(), &other, keys(A)).unwrap_err();
    assert!(error.to_string().contains("other"), "{error}");
}
