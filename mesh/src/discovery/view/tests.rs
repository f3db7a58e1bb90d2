use proptest::prelude::*;

use super::*;
use crate::discovery::{
    About,
    layout::{Layout, told},
};

const TTL: Duration = Duration::from_secs(10);
const SETTLE: Duration = Duration::from_secs(25);

fn view() -> View {
    View::new(TTL, Limits { nodes: 3, roles: 2, ..Limits::default() })
}

fn node(id: &str, address: &str, created: i64) -> Node {
    let member = told(id, address, About::default()).unwrap();
    Node { member: Arc::new(member), created, bytes: 100 }
}

/// A list of nodes of one role, each at an address of its own.
fn list(view: &View, ids: &[&str]) -> Listing {
    let mut listing = view.listing();
    let nodes = ids.iter().map(|id| ((*id).to_owned(), Some(node(id, &format!("{id}:1"), 1))));
    listing.roles.entry("r".into()).or_default().nodes.extend(nodes);
    listing
}

fn ids(view: &View) -> Vec<String> {
    view.publish();
    let members = view.watch("r").0.borrow().clone();
    members.nodes.iter().map(|node| node.id.clone()).collect()
}

fn source(view: &View) -> Source {
    view.watch("r").0.borrow().source
}

#[tokio::test(start_paused = true)]
async fn nodes_that_come_and_that_leave_do_so_at_once() {
    let view = view();
    let now = Instant::now();
    assert!(ids(&view).is_empty());
    view.listed(list(&view, &["a", "b"]), true, now);
    assert_eq!((ids(&view), source(&view)), (vec!["a".into(), "b".into()], Source::Registry));
    view.put("r", node("c", "c:1", 5)).unwrap();
    assert!(!view.leave("r", "a"));
    assert_eq!(ids(&view), ["b", "c"]);
    view.leave("r", "b");
    view.leave("r", "c");
    assert!(ids(&view).is_empty(), "nodes that left one by one are gone, the last as well");
    // Their entries go after them.
    view.delete("r", "c", now);
    assert!(ids(&view).is_empty());
}

#[tokio::test(start_paused = true)]
async fn nodes_whose_leases_all_end_are_kept_for_longer_than_they_take_to_come_back() {
    let view = view();
    let start = Instant::now();
    view.listed(list(&view, &["a", "b", "c"]), true, start);
    let calm = start + SETTLE * 10;
    view.expire(calm);
    for id in ["a", "b", "c"] {
        view.delete("r", id, calm);
    }
    view.expire(calm + SETTLE * 2);
    assert_eq!(ids(&view), ["a", "b", "c"], "they cannot reach the registry, or are all dead");
    view.put("r", node("b", "b:1", 9)).unwrap();
    view.expire(calm + SETTLE * 2);
    assert_eq!(ids(&view), ["b"], "the others have had their time");
}

#[tokio::test(start_paused = true)]
async fn while_the_registry_is_away_nothing_changes() {
    let view = view();
    let now = Instant::now();
    view.listed(list(&view, &["a", "b"]), true, now);
    assert_eq!(ids(&view).len(), 2);
    view.away();
    view.expire(now + Duration::from_secs(1_000_000));
    assert_eq!((ids(&view).len(), source(&view)), (2, Source::Memory));
}

#[tokio::test(start_paused = true)]
async fn nodes_have_time_to_register_again_and_only_then_are_given_up() {
    let view = view();
    let start = Instant::now();
    view.listed(list(&view, &["a", "b", "c"]), true, start);
    view.away();
    let back = start + Duration::from_secs(60);
    view.listed(list(&view, &[]), true, back);
    assert_eq!((ids(&view).len(), source(&view)), (3, Source::Registry), "an empty list is not believed yet");
    view.put("r", node("a", "a:1", 2)).unwrap();
    // Its lease ended before it could renew it.
    view.put("r", node("b", "b:1", 3)).unwrap();
    view.delete("r", "b", back + TTL);
    view.expire(back + SETTLE - Duration::from_secs(1));
    assert_eq!(ids(&view), ["a", "b", "c"]);
    view.expire(back + SETTLE);
    assert_eq!(ids(&view), ["a", "b"], "c was never seen again");
    view.expire(back + SETTLE + TTL);
    assert_eq!(ids(&view), ["a"]);
    view.leave("r", "a");
    assert!(ids(&view).is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_outage_in_the_time_to_register_begins_it_anew() {
    let view = view();
    let start = Instant::now();
    view.listed(list(&view, &["a", "b"]), true, start);
    for outage in 1..5 {
        view.away();
        let back = start + TTL * outage * 2;
        view.listed(list(&view, &["a"]), true, back);
        view.expire(back + TTL);
        assert_eq!(ids(&view).len(), 2);
    }
    view.expire(start + TTL * 8 + SETTLE);
    assert_eq!(ids(&view), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_list_without_an_outage_does_not_give_missing_nodes_more_time() {
    let view = view();
    let start = Instant::now();
    view.listed(list(&view, &["a", "b"]), true, start);
    for again in 0..10 {
        view.listed(list(&view, &["a"]), false, start + TTL * again);
        view.expire(start + TTL * again);
    }
    assert_eq!(ids(&view), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_role_of_which_the_registry_has_none_left_stays_longer() {
    let view = view();
    let start = Instant::now();
    view.listed(list(&view, &["a", "b"]), true, start);
    view.away();
    view.listed(list(&view, &[]), true, start);
    view.expire(start + SETTLE * 2);
    assert_eq!(ids(&view).len(), 2);
    view.expire(start + LAST);
    assert!(ids(&view).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_serves_until_the_registry_has_had_its_say() {
    let view = view();
    let members = ["a", "b"].map(|id| told(id, &format!("{id}:1"), About::default()).unwrap());
    let as_of = SystemTime::UNIX_EPOCH + Duration::from_secs(77);
    view.restore(BTreeMap::from([("r".to_owned(), members.to_vec())]), as_of);
    assert_eq!((ids(&view).len(), source(&view)), (2, Source::Snapshot));
    assert_eq!(view.watch("r").0.borrow().as_of, as_of);
    view.away();
    assert_eq!(source(&view), Source::Snapshot, "it never was in reach");
    let now = Instant::now();
    view.listed(list(&view, &["b", "c"]), true, now);
    assert_eq!((ids(&view).len(), source(&view)), (3, Source::Registry));
    view.expire(now + SETTLE);
    assert_eq!(ids(&view), ["b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_cannot_be_read_leaves_its_node() {
    let view = view();
    let now = Instant::now();
    view.listed(list(&view, &["a"]), true, now);
    let mut listing = view.listing();
    listing.roles.entry("r".into()).or_default().nodes.extend([("a".into(), None), ("b".into(), None)]);
    view.listed(listing, true, now);
    view.expire(now + LAST * 2);
    assert_eq!(ids(&view), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn of_nodes_at_one_address_the_one_that_was_registered_last_counts() {
    let view = view();
    let now = Instant::now();
    view.listed(list(&view, &[]), true, now);
    view.put("r", node("new", "host:1", 9)).unwrap();
    view.put("r", node("old", "HOST:1", 4)).unwrap();
    view.put("r", node("other", "host:2", 1)).unwrap();
    assert_eq!(ids(&view), ["new", "other"]);
    view.delete("r", "new", now);
    assert_eq!(ids(&view), ["old", "other"]);
    // After an outage, one that is there counts more than one that is not.
    view.away();
    let mut listing = view.listing();
    let only = BTreeMap::from([("third".to_owned(), Some(node("third", "host:1", 2)))]);
    listing.roles.entry("r".into()).or_default().nodes = only;
    view.listed(listing, true, now);
    assert_eq!(ids(&view), ["other", "third"]);
}

#[tokio::test(start_paused = true)]
async fn of_too_many_nodes_the_first_by_id_are_kept_and_room_is_filled() {
    let view = view();
    let now = Instant::now();
    view.listed(list(&view, &["b", "c", "d"]), true, now);
    assert_eq!(view.put("r", node("e", "e:1", 2)), Err(Skip::TooMany));
    assert_eq!(view.put("r", node("a", "a:1", 3)), Ok(()));
    assert_eq!(ids(&view), ["a", "b", "c"]);
    assert!(view.delete("r", "b", now), "there is room for d and e, which only a list tells of");
    let huge = Node { bytes: usize::MAX / 2, ..node("b", "b:1", 4) };
    assert_eq!(view.put("r", huge), Err(Skip::TooMany));
}

#[tokio::test(start_paused = true)]
async fn roles_that_nobody_calls_are_bounded_and_one_that_is_called_asks_for_a_list() {
    let view = view();
    view.listed(list(&view, &["a"]), true, Instant::now());
    assert_eq!(view.put("s", node("a", "a:1", 2)), Ok(()));
    assert_eq!(view.put("t", node("a", "a:1", 2)), Err(Skip::TooMany));
    assert!(view.watch("t").1 && !view.watch("r").1);
    assert_eq!(view.put("t", node("a", "a:1", 2)), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn nobody_is_told_of_what_did_not_change() {
    let view = view();
    view.listed(list(&view, &["a"]), true, Instant::now());
    let mut members = view.watch("r").0;
    members.borrow_and_update();
    view.listed(list(&view, &["a"]), false, Instant::now());
    view.put("r", node("a", "a:1", 1)).unwrap();
    view.publish();
    assert!(!members.has_changed().unwrap());
    view.put("r", node("b", "b:1", 1)).unwrap();
    view.publish();
    assert!(members.has_changed().unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_lease_ended_is_given_time() {
    let view = view();
    let now = Instant::now();
    view.listed(list(&view, &["a", "b"]), true, now);
    view.delete("r", "a", now);
    view.put("r", node("a", "a:1", 7)).unwrap();
    view.delete("r", "b", now);
    assert_eq!(ids(&view), ["a", "b"]);
    view.expire(now + SETTLE);
    assert_eq!(ids(&view), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn what_a_list_that_ran_out_of_pages_did_not_come_to_stays() {
    let view = view();
    let now = Instant::now();
    ids(&view);
    view.listed(list(&view, &["a", "b"]), true, now);
    let layout = Layout::new("default");
    for (reached, left) in [("p/x", &["a", "b"][..]), ("r/a1", &["a", "b"]), ("r0", &["a"])] {
        let mut listing = list(&view, if reached == "p/x" { &[] } else { &["a"] });
        if reached == "p/x" {
            listing.roles.clear();
        }
        listing.end(&layout, &[b"/switchboard/v1/default/nodes/", reached.as_bytes()].concat());
        view.listed(listing, true, now);
        view.expire(now + LAST);
        assert_eq!(ids(&view), left, "{reached}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_role_that_is_called_while_a_list_leaves_it_out_stays_and_asks_for_another() {
    let view = view();
    let now = Instant::now();
    view.listed(list(&view, &["a"]), true, now);
    let mut listing = view.listing();
    let layout = Layout::new("default");
    let value = crate::discovery::layout::value("a:1", &About::default());
    let page = ["o", "p", "q", "r"].map(|role| crate::discovery::etcd::messages::KeyValue {
        key: layout.key(role, "a"),
        value: value.clone(),
        ..Default::default()
    });
    listing.take(&layout, &page);
    assert_eq!(ids(&view), ["a"], "it is called from now on");
    assert!(view.listed(listing, true, now), "and was left out");
    view.expire(now + LAST);
    assert_eq!(ids(&view), ["a"]);
    assert!(!view.listed(list(&view, &["a"]), false, now));
}

/// A list of which only these entries were looked at; some cannot be used.
fn cut_list(view: &View, usable: &[&str], garbage: &[&str]) -> Listing {
    let mut listing = list(view, usable);
    let role = listing.roles.get_mut("r").unwrap();
    role.nodes.extend(garbage.iter().map(|id| ((*id).to_owned(), None)));
    role.cut = true;
    listing
}

#[tokio::test(start_paused = true)]
async fn what_lies_beyond_the_cut_of_a_list_stays_while_there_is_room() {
    let view = view();
    let now = Instant::now();
    view.listed(list(&view, &["b", "y", "z"]), true, now);
    // Garbage filled what is looked at.
    view.listed(cut_list(&view, &["b"], &["a", "c"]), false, now);
    view.expire(now + LAST);
    assert_eq!(ids(&view), ["b", "y", "z"]);
    view.listed(cut_list(&view, &["b", "d"], &["a", "c"]), false, now);
    assert_eq!(ids(&view), ["b", "d", "y"], "only what is too much goes, the last first");
    // What the list did come to and lacks is gone in its time.
    view.listed(cut_list(&view, &["d"], &["a", "c"]), false, now);
    view.expire(now + SETTLE);
    assert_eq!(ids(&view), ["d", "y"]);
}

#[tokio::test(start_paused = true)]
async fn garbage_that_is_cleared_away_asks_for_a_list() {
    let view = view();
    let now = Instant::now();
    view.listed(list(&view, &["b"]), true, now);
    assert!(!view.delete("r", "a", now), "nothing was left out");
    view.listed(cut_list(&view, &["b"], &["a", "c"]), false, now);
    assert!(view.delete("r", "a", now), "there is room");
    assert!(!view.delete("s", "a", now));
    assert_eq!(ids(&view), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn list_after_list_takes_no_more_room_and_what_is_missing_gives_way_first() {
    let view = view();
    let now = Instant::now();
    view.listed(list(&view, &["a", "b", "c"]), true, now);
    view.listed(list(&view, &["b", "c", "d"]), true, now + TTL);
    assert_eq!(ids(&view), ["b", "c", "d"], "a is missing");
    view.listed(list(&view, &["d", "x"]), true, now + TTL * 2);
    assert_eq!(ids(&view), ["c", "d", "x"], "b and c are missing for as long");
    view.listed(list(&view, &["e", "f", "g"]), true, now + TTL * 3);
    assert_eq!(ids(&view), ["e", "f", "g"]);
    assert_eq!(view.put("r", node("z", "z:1", 2)), Err(Skip::TooMany));
    // One that comes by a change has the place of one that is missing as well.
    view.listed(list(&view, &["f"]), true, now + TTL * 4);
    assert_eq!(view.put("r", node("z", "z:1", 3)), Ok(()));
    assert_eq!(ids(&view), ["f", "g", "z"]);
}

#[tokio::test(start_paused = true)]
async fn roles_that_come_and_go_in_lists_take_no_more_room() {
    let view = view();
    let now = Instant::now();
    view.watch("z");
    for round in 0..20 {
        let mut listing = view.listing();
        let mut roles = [format!("r-{round}"), format!("s-{round}"), "z".into()];
        roles.sort();
        for role in roles.clone() {
            let nodes = &mut listing.roles.entry(role).or_default().nodes;
            nodes.insert("a".to_owned(), Some(node("a", "a:1", 1)));
        }
        view.listed(listing, true, now);
        assert_eq!(view.all().into_keys().collect::<Vec<_>>(), roles, "those that are there have the room");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_restored_is_bounded_as_well() {
    let view = View::new(TTL, Limits { nodes: 3, roles: 2, bytes: 300, ..Limits::default() });
    let about = |zone: usize| About { zone: "z".repeat(zone), ..About::default() };
    let member =
        |number: usize| told(&format!("{number:02}"), &format!("a:{}", number + 1), about(0)).unwrap();
    let mut members: BTreeMap<String, Vec<Member>> =
        (0..50).map(|role| (format!("role-{role:02}"), (0..20).map(member).collect())).collect();
    let large = |id: &str, port: u16| told(id, &format!("a:{port}"), about(64)).unwrap();
    members.insert("a".into(), (1..=9).map(|port| large(&port.to_string(), port)).collect());
    view.restore(members, SystemTime::UNIX_EPOCH);
    let all = view.all();
    assert_eq!(all.len(), 2 * RESTORED);
    assert_eq!(all["role-00"].len(), 3);
    assert_eq!(all["a"].len(), 2, "three are larger than a role may be");
    check(&view);
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_comes_and_goes_without_end_keeps_no_dead_nodes() {
    let view = view();
    let mut now = Instant::now();
    view.listed(list(&view, &["a", "b"]), true, now);
    for _ in 0..200 {
        view.away();
        now += Duration::from_secs(3);
        view.listed(list(&view, &["a"]), true, now);
        view.expire(now);
    }
    assert_eq!(ids(&view), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn nodes_that_are_given_up_make_room_for_those_that_were_left_out() {
    let view = view();
    let now = Instant::now();
    view.listed(list(&view, &["b", "c"]), true, now);
    view.listed(cut_list(&view, &["b"], &["a", "d"]), false, now);
    assert!(!view.expire(now + SETTLE / 2));
    assert!(view.expire(now + SETTLE));
    assert!(!view.expire(now + SETTLE * 2));
}

#[tokio::test(start_paused = true)]
async fn only_another_set_of_nodes_and_addresses_is_worth_a_snapshot() {
    let view = view();
    let now = Instant::now();
    let mut seen = view.changes();
    let mut is_new = |view: &View| std::mem::replace(&mut seen, view.changes()) != view.changes();
    view.listed(list(&view, &["a", "b"]), true, now);
    assert!(is_new(&view));
    for revision in 2..50 {
        let mut said = node("a", "a:1", revision);
        Arc::make_mut(&mut said.member).about.started_at = revision.unsigned_abs();
        view.put("r", said).unwrap();
        view.listed(list(&view, &["a", "b"]), revision % 2 == 0, now);
    }
    view.away();
    view.delete("r", "x", now);
    assert!(!is_new(&view), "nobody came, went or moved");
    view.put("r", node("a", "elsewhere:1", 60)).unwrap();
    assert!(is_new(&view));
    view.put("r", node("c", "c:1", 61)).unwrap();
    assert!(is_new(&view));
    view.listed(list(&view, &["a", "c"]), false, now);
    assert!(is_new(&view), "a is where it was");
    view.expire(now + SETTLE);
    assert!(is_new(&view), "b is given up");
    // Only missing for now.
    view.delete("r", "c", now);
    assert!(!is_new(&view));
    view.leave("r", "c");
    assert!(is_new(&view));
}

/// Nothing is larger than it may be, and what is counted is so.
fn check(view: &View) {
    let inner = view.inner();
    for (name, role) in &inner.roles {
        let bytes: usize = role.entries().map(|entry| entry.node.bytes).sum();
        assert_eq!(role.bytes(), bytes, "{name}");
        assert!(bytes <= inner.limits.bytes && role.len() <= inner.limits.nodes, "{name}");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, u8, usize),
    Delete(u8, u8),
    Listed(Vec<(u8, u8, Option<usize>)>, bool, bool),
    Away,
    Leave(u8, u8),
    Wait(u64),
    Watch(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let bytes = 1..200_usize;
    let listed = (0..6_u8, 0..9_u8, prop::option::of(bytes.clone()));
    prop_oneof![
        6 => (0..6_u8, 0..9_u8, bytes).prop_map(|(role, id, bytes)| Step::Put(role, id, bytes)),
        4 => (0..6_u8, 0..9_u8).prop_map(|(role, id)| Step::Delete(role, id)),
        3 => (prop::collection::vec(listed, 0..12), any::<bool>(), any::<bool>())
            .prop_map(|(entries, cut, back)| Step::Listed(entries, cut, back)),
        1 => Just(Step::Away),
        2 => (0..6_u8, 0..9_u8).prop_map(|(role, id)| Step::Leave(role, id)),
        2 => (0..40_u64).prop_map(Step::Wait),
        1 => (0..6_u8).prop_map(Step::Watch),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_the_bounds_hold(steps in prop::collection::vec(step(), 1..60)) {
        let view = View::new(TTL, Limits { nodes: 3, roles: 2, bytes: 400, ..Limits::default() });
        let mut now = Instant::now();
        let node = |id: u8, bytes| Node { bytes, ..node(&id.to_string(), &format!("a:{}", id + 1), 1) };
        for step in steps {
            match step {
                Step::Put(role, id, bytes) => { let _ = view.put(&role.to_string(), node(id, bytes)); }
                Step::Delete(role, id) => { view.delete(&role.to_string(), &id.to_string(), now); }
                Step::Listed(entries, cut, back) => {
                    let mut listing = view.listing();
                    for (role, id, bytes) in entries {
                        let listed = listing.roles.entry(role.to_string()).or_default();
                        listed.cut = cut;
                        listed.nodes.insert(id.to_string(), bytes.map(|bytes| node(id, bytes)));
                    }
                    view.listed(listing, back, now);
                    let inner = view.inner();
                    let unwatched = inner.roles.keys().filter(|role| !inner.watched.contains_key(*role));
                    prop_assert!(unwatched.count() <= 2);
                }
                Step::Away => view.away(),
                Step::Leave(role, id) => { view.leave(&role.to_string(), &id.to_string()); }
                Step::Wait(seconds) => {
                    now += Duration::from_secs(seconds);
                    view.expire(now);
                }
                Step::Watch(role) => { view.watch(&role.to_string()); }
            }
            check(&view);
        }
    }
}
