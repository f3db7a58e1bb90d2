//! Files that change under a running node.

use super::*;
use crate::{identity::watch::End, testing::eventually};

fn held(identity: &Identity) -> &Held {
    identity.0.as_ref().unwrap()
}

#[tokio::test]
async fn open_connections_live_on_and_new_ones_use_the_new_certificate() {
    let (old, new) = (Authority::new(), Authority::new());
    let files = old.node("policy");
    let served = files.load();
    let (uri, _guard) = node(served.clone(), Limits::default()).await;
    let open = channel(&old.node("conversation").load(), "policy", &uri);
    check(open.clone()).await.unwrap();
    let of_new = new.node("conversation").load();
    assert!(check(channel(&of_new, "policy", &uri)).await.is_err(), "not yet");

    files.become_as(&new.node("policy"));
    held(&served).look(SystemTime::now());
    check(open).await.unwrap();
    check(channel(&of_new, "policy", &uri)).await.unwrap();
    let late = channel(&old.node("conversation").load(), "policy", &uri);
    assert!(check(late).await.is_err(), "the old authority is gone");
}

#[tokio::test]
async fn a_caller_uses_its_new_certificate_for_new_connections() {
    let (old, new) = (Authority::new(), Authority::new());
    let (uri, _guard) = node(new.node("policy").load(), Limits::default()).await;
    let files = old.node("conversation");
    let caller = files.load();
    assert!(check(channel(&caller, "policy", &uri)).await.is_err());
    files.become_as(&new.node("conversation"));
    held(&caller).look(SystemTime::now());
    check(channel(&caller, "policy", &uri)).await.unwrap();
}

#[tokio::test]
async fn bad_files_change_nothing_until_they_are_good() {
    let ca = Authority::new();
    let files = ca.node("policy");
    let served = files.load();
    let (uri, _guard) = node(served.clone(), Limits::default()).await;
    let caller = ca.node("conversation").load();
    let next = ca.node("policy/knowledge");
    let read = |path: &std::path::Path| std::fs::read(path).unwrap();
    let key = read(&files.config.key);
    // One file after the other, as tools write them; then nonsense; then nothing at all.
    std::fs::copy(&next.config.certificate, &files.config.certificate).unwrap();
    held(&served).look(SystemTime::now());
    check(channel(&caller, "policy", &uri)).await.unwrap();
    assert!(!served.own().unwrap().has("knowledge"), "the key is still another's");
    std::fs::write(&files.config.key, "nonsense").unwrap();
    held(&served).look(SystemTime::now());
    std::fs::remove_file(&files.config.key).unwrap();
    held(&served).look(SystemTime::now());
    check(channel(&caller, "policy", &uri)).await.unwrap();
    std::fs::write(&files.config.key, &key).unwrap();
    held(&served).look(SystemTime::now());
    assert!(!served.own().unwrap().has("knowledge"), "the first key and the second certificate");

    std::fs::copy(&next.config.key, &files.config.key).unwrap();
    held(&served).look(SystemTime::now());
    assert!(served.own().unwrap().has("knowledge"));
    check(channel(&caller, "knowledge", &uri)).await.unwrap();
}

#[tokio::test]
async fn a_watched_identity_takes_up_new_files_by_itself_until_it_is_stopped() {
    let ca = Authority::new();
    let files = ca.node("policy");
    let identity = files.load();
    let stop = CancellationToken::new();
    let watching = tokio::spawn(identity.clone().watch(stop.clone()));
    files.become_as(&ca.node("policy/knowledge"));
    eventually(async || identity.own().unwrap().has("knowledge").then_some(()).ok_or("what it was")).await;
    stop.cancel();
    watching.await.unwrap();
    // Nothing to follow, nothing to stop.
    Identity::plain().watch(CancellationToken::new()).await;
}

#[test]
fn a_certificate_that_lacks_a_role_of_the_one_in_use_is_not_taken_up() {
    let ca = Authority::new();
    let files = ca.node("policy/knowledge");
    let identity = files.load();
    for other in ["reranking", "policy", "policy/reranking"] {
        files.become_as(&ca.node(other));
        held(&identity).look(SystemTime::now());
        let own = identity.own().unwrap();
        assert!(own.has("policy") && own.has("knowledge"), "{other}: {own}");
        let refused = held(&identity).seen.lock().unwrap().refused.clone().unwrap();
        assert!(refused.1.starts_with("identity.certificate") && refused.1.contains("lacks the role"));
    }
    files.become_as(&ca.node("reranking/knowledge/policy"));
    held(&identity).look(SystemTime::now());
    assert!(identity.own().unwrap().has("reranking"));
}

#[test]
fn a_certificate_that_is_not_valid_yet_is_taken_up_once_it_is_and_told_of_once() {
    let ca = Authority::new();
    let (hour, now) = (Duration::from_secs(3600), SystemTime::now());
    let files = ca.node("policy");
    let identity = files.load();
    let refused = || held(&identity).seen.lock().unwrap().refused.clone();
    let first = std::fs::read(&files.config.certificate).unwrap();
    let early = ca.lived("policy/knowledge", now + hour, now + 24 * hour);
    files.become_as(&early);
    held(&identity).look(now);
    let told = refused().unwrap();
    assert!(told.1.contains("valid only from"), "{}", told.1);
    held(&identity).look(now + hour / 2);
    assert_eq!(refused(), Some(told), "the same is not told again");
    held(&identity).look(now + 2 * hour);
    assert!(identity.own().unwrap().has("knowledge") && refused().is_none());
    // What is refused does not count as what is in use.
    std::fs::write(&files.config.certificate, first).unwrap();
    held(&identity).look(now);
    assert!(refused().is_some(), "the key is another's");
    std::fs::copy(&early.config.certificate, &files.config.certificate).unwrap();
    held(&identity).look(now);
    assert!(refused().is_none(), "these are in use: nothing is tried");
}

#[test]
fn the_end_of_a_certificate_is_told_once_and_again_of_the_next() {
    let ca = Authority::new();
    let (day, now) = (Duration::from_secs(86_400), SystemTime::now());
    let files = ca.lived("policy", now - day, now + 9 * day);
    let identity = files.load();
    let told = |at: SystemTime| {
        held(&identity).look(at);
        held(&identity).seen.lock().unwrap().end
    };
    assert_eq!(told(now), End::Far);
    assert_eq!(told(now + 7 * day), End::Far);
    assert_eq!(told(now + 8 * day + day / 2), End::Near);
    assert_eq!(told(now + 10 * day), End::Past);
    files.become_as(&ca.lived("policy", now + 5 * day, now + 30 * day));
    assert_eq!(told(now + 10 * day), End::Far);
}
