use std::fs;

use super::*;

const LIMIT: Duration = Duration::from_secs(5);

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/policy")
}

/// A folder with a bundle in it, made of files; `bundle.toml` is there unless it is among them.
fn bundle(files: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("own");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("bundle.toml"), "version = \"1\"\n").unwrap();
    for (name, text) in files {
        fs::write(path.join(name), text).unwrap();
    }
    (folder, path)
}

fn refused(files: &[(&str, &str)]) -> String {
    let (_folder, path) = bundle(files);
    load(&path, LIMIT).unwrap_err().to_string()
}

fn config(folder: &Path) -> Config {
    Config {
        bundles: folder.to_owned(),
        tenants: [("acme".to_owned(), "own".to_owned())].into(),
        evaluation: LIMIT,
        ..Config::default()
    }
}

fn acme() -> Tenant {
    Tenant::try_new("acme").unwrap()
}

fn ask(bundles: &Bundles, entry: Entry, input: &str) -> Outcome {
    let input = Value::from_json_str(input).unwrap();
    let [outcome] = bundles.of(&acme()).ask([entry], &input).unwrap();
    outcome
}

/// A decision that is always made.
fn always(rule: &str, verdict: &str) -> String {
    format!("package switchboard\n\ntool contains {{\"rule\": \"{rule}\", \"verdict\": \"{verdict}\"}}\n")
}

#[test]
fn the_example_bundles_pass_their_tests() {
    for name in ["base", "retail", "bank", "clinic"] {
        let checked = check(&examples().join(name), LIMIT).unwrap_or_else(|error| panic!("{error}"));
        let failed: Vec<_> = checked.tests.iter().filter(|test| test.fault.is_some()).collect();
        assert!(failed.is_empty(), "{failed:#?}");
        assert!(checked.tests.len() >= 7, "{name} has {} tests", checked.tests.len());
    }
}

#[test]
fn the_base_that_is_built_in_is_the_examples_and_has_every_entry_point() {
    let base = built_in(LIMIT).unwrap();
    assert_eq!(base.entries, Entry::ALL);
    let example = load(&examples().join("base"), LIMIT).unwrap();
    assert_eq!((base.version, base.hash), (example.version, example.hash));
}

#[test]
fn what_is_wrong_with_a_bundle_is_told_with_its_file_and_line() {
    for (files, told) in [
        (vec![("a.rego", "package switchboard\n\ntool contains 1 if {\n\tinput.x ==\n}\n")], "own/a.rego:5"),
        (vec![("a.rego", "package other\n\ntool := 1\n")], "own/a.rego: the package is data.other"),
        (vec![("a.rego", "package switchboard\n\nfoo := 1\n")], "has none of the rules"),
        (vec![("a.rego", "package switchboard\n\ntool := true\n")], "`tool`: it is no set"),
        (vec![("a.rego", &*always("a", "maybe"))], "`verdict` is one of allow"),
        (vec![], "there is no file of rules"),
        (vec![("a.rgo", "")], "not a file of a bundle"),
        (vec![("a.rego", "package switchboard\n\ntool contains f(1)\n")], "f"),
        (vec![("a.rego", &always("a", "allow")), ("data.json", "{")], "data.json"),
        (vec![("a.rego", &always("a", "allow")), ("data.json", "[1]")], "an object is expected"),
        (vec![("a.rego", &always("a", "allow")), ("data.json", "{}"), ("data.yaml", "a: 1")], "one of them"),
        (
            vec![("a.rego", &always("a", "allow")), ("data.json", r#"{"switchboard": 1}"#)],
            "needs another name",
        ),
        (vec![("a.rego", &always("a", "allow")), ("bundle.toml", "")], "bundle.toml: "),
        (
            vec![("a.rego", &always("a", "allow")), ("bundle.toml", "version = \"1\"\nx = 1")],
            "unknown field `x`",
        ),
        (
            vec![("a.rego", &always("a", "allow")), ("data.json", r#"{"voice": {"banned": "x"}}"#)],
            "`voice.banned` is a list of str",
        ),
        (vec![("a.rego", "package switchboard\n\nx := sprintf(\"%9999d\", [1])\n")], "own/a.rego:3: a width"),
    ] {
        let message = refused(&files);
        assert!(message.contains(told), "{told}: {message}");
    }
}

#[test]
fn a_bundle_whose_tests_fail_is_refused_with_the_test() {
    let failing = "package switchboard_test\n\ntest_fine if true\n\ntest_wrong if {\n\t1 == 2\n}\n";
    let message = refused(&[("a.rego", &always("a", "allow")), ("a_test.rego", failing)]);
    assert!(message.contains("own/a_test.rego:5: data.switchboard_test.test_wrong fails"), "{message}");
}

#[test]
fn a_file_that_is_too_large_is_refused() {
    let long = format!("package switchboard\n{}", "# x\n".repeat(70_000));
    assert!(refused(&[("a.rego", &long)]).contains("at most 256 KiB"));
}

#[test]
fn rules_that_go_on_and_on_are_cut_off() {
    let endless = "package switchboard\n\ntool contains {\"rule\": \"a\", \"verdict\": \"allow\"} if {\n\
                   \tinput.go\n\tn := numbers.range(1, 5000)\n\tsome a in n\n\tsome b in n\n\tsome c in n\n\
                   \ta + b + c == 0\n}\n";
    let (_folder, path) = bundle(&[("a.rego", endless)]);
    let limit = Duration::from_millis(50);
    let own = load(&path, limit).unwrap();
    let began = std::time::Instant::now();
    let input = Value::from_json_str(r#"{"go": true}"#).unwrap();
    assert_eq!(own.ask([Entry::Tool], &input).unwrap_err(), Failure::Late { limit });
    // Uncut it would take hours; the margin is for a machine under load.
    assert!(began.elapsed() < Duration::from_secs(20));
    // The same rules answer again afterwards.
    assert_eq!(own.ask([Entry::Tool], &Value::new_object()).unwrap(), [vec![]]);
}

#[test]
fn builtin_functions_that_fill_the_memory_fail_instead() {
    for call in
        ["numbers.range(1, 1000000000000)", "numbers.range_step(1, 9, 1)", "bits.lsh(1, 1000000000000)"]
    {
        let rules = format!(
            "package switchboard\n\ntool contains {{\"rule\": \"a\", \"verdict\": \"allow\"}} if {{\n\
             \tinput.go\n\tx := {call}\n\tx != 7\n}}\n"
        );
        let (_folder, path) = bundle(&[("a.rego", &rules)]);
        let own = load(&path, LIMIT).unwrap();
        let answer = own.ask([Entry::Tool], &Value::from_json_str(r#"{"go": true}"#).unwrap());
        assert!(!matches!(&answer, Ok([said]) if !said.is_empty()), "{call}: {answer:?}");
    }
}

#[test]
fn a_failure_tells_the_place_and_nothing_of_the_input() {
    let rules = "package switchboard\n\ntool contains {\"rule\": input.text, \"verdict\": \"allow\"}\n\n\
                 route contains {\"rule\": \"a\", \"verdict\": input.text}\n";
    let (_folder, path) = bundle(&[("a.rego", rules)]);
    let own = load(&path, LIMIT).unwrap();
    let input = Value::from_json_str(r#"{"text": "my card is lost"}"#).unwrap();
    for entry in [Entry::Tool, Entry::Route] {
        let failure = own.ask([entry], &input).unwrap_err();
        assert!(!format!("{failure} {failure:?}").contains("card"), "{failure:?}");
    }
}

#[test]
fn rules_read_neither_the_environment_nor_the_network() {
    for call in ["opa.runtime()", "http.send({\"url\": \"http://127.0.0.1/\"})", "time.now_ns()"] {
        let rules = format!("package switchboard\n\ntool contains {{\"rule\": \"a\", \"x\": {call}}}\n");
        assert!(refused(&[("a.rego", &rules)]).contains("own/a.rego:3"), "{call}");
    }
}

#[test]
fn data_may_be_yaml_and_a_voice_of_both_layers_is_one() {
    let yaml = "voice:\n  banned: [cheap]\n  max_grade: 8\nlimit: 3\n";
    let rules =
        "package switchboard\n\ntool contains {\"rule\": \"a\", \"verdict\": \"allow\"} if data.limit == 3\n";
    let (folder, _path) = bundle(&[("a.rego", rules), ("data.yaml", yaml)]);
    let bundles = Bundles::open(&config(folder.path())).unwrap();
    assert_eq!(
        ask(&bundles, Entry::Tool, "{}").verdict(),
        Some(Verdict::Ask),
        "with the base's of a stranger"
    );
    let layers = bundles.of(&acme());
    let voices: Vec<_> = layers.voices().collect();
    assert_eq!((voices[1].banned.as_slice(), voices[1].max_grade), (&["cheap".to_owned()][..], Some(8.0)));
    assert!(!voices[0].verdicts.is_empty(), "the base's comes first");
}

#[test]
fn a_tenant_without_a_bundle_has_the_base() {
    let (folder, _path) = bundle(&[("a.rego", &always("own.rule", "refuse"))]);
    let bundles = Bundles::open(&config(folder.path())).unwrap();
    let reads = Value::from_json_str(r#"{"facts": {"effect": "none"}}"#).unwrap();
    let of = |name: &str| bundles.of(&Tenant::try_new(name).unwrap());
    let verdict = |name: &str| of(name).ask([Entry::Tool], &reads).unwrap()[0].verdict();
    assert_eq!((verdict("acme"), verdict("other")), (Some(Verdict::Refuse), Some(Verdict::Allow)));
    assert!(of("acme").to_string().contains(", own 1 (") && !of("other").to_string().contains("own"));
}

#[test]
fn a_bundle_that_is_named_and_not_there_is_an_error_of_its_key() {
    let (folder, _path) = bundle(&[("a.rego", &always("a", "allow"))]);
    let missing = Config { tenants: [("acme".into(), "other".into())].into(), ..config(folder.path()) };
    assert_eq!(Bundles::open(&missing).unwrap_err().key, "policy.tenants.acme");
    let missing = Config { bundle: "other".into(), ..config(folder.path()) };
    assert_eq!(Bundles::open(&missing).unwrap_err().key, "policy.bundle");
}

#[test]
fn a_sound_change_is_taken_up_and_a_bad_one_changes_nothing() {
    let (folder, path) = bundle(&[("a.rego", &always("first", "refuse"))]);
    let bundles = Bundles::open(&config(folder.path())).unwrap();
    let rule = || ask(&bundles, Entry::Tool, r#"{"facts": {"effect": "none"}}"#).decisions[0].rule.clone();
    let told = || bundles.about(&acme())[1].1.clone();
    assert_eq!(rule(), "first");

    fs::write(path.join("a.rego"), always("second", "refuse")).unwrap();
    bundles.look(false);
    assert_eq!(rule(), "first", "it may still be being written");
    bundles.look(false);
    assert_eq!((rule().as_str(), told()), ("second", None));

    fs::write(path.join("a.rego"), "package switchboard\n\ntool contains {\n").unwrap();
    bundles.look(true);
    assert_eq!(rule(), "second");
    assert!(told().unwrap().contains("own/a.rego:"), "{:?}", told());

    fs::remove_dir_all(&path).unwrap();
    bundles.look(true);
    assert_eq!(rule(), "second");
    assert!(told().unwrap().contains("own"));

    fs::create_dir(&path).unwrap();
    fs::write(path.join("bundle.toml"), "version = \"3\"").unwrap();
    fs::write(path.join("a.rego"), always("third", "refuse")).unwrap();
    bundles.look(true);
    assert_eq!((rule().as_str(), told()), ("third", None));
}

#[test]
fn what_is_in_use_is_told_while_a_folder_is_looked_at() {
    let (folder, _path) = bundle(&[("a.rego", &always("a", "refuse"))]);
    let bundles = Arc::new(Bundles::open(&config(folder.path())).unwrap());
    let _looking = bundles.named["own"].seen.lock().unwrap();
    let (told, heard) = std::sync::mpsc::channel();
    let asked = Arc::clone(&bundles);
    std::thread::spawn(move || told.send(asked.about(&acme()).len()));
    assert_eq!(heard.recv_timeout(Duration::from_secs(20)), Ok(2));
}

#[test]
fn answers_are_the_same_on_many_threads() {
    let (folder, _path) = bundle(&[("a.rego", &always("a", "refuse"))]);
    let bundles = Bundles::open(&config(folder.path())).unwrap();
    std::thread::scope(|scope| {
        for at in 0..8 {
            let bundles = &bundles;
            scope.spawn(move || {
                for _ in 0..200 {
                    let effect = if at % 2 == 0 { "none" } else { "reversible" };
                    let input = format!(r#"{{"facts": {{"effect": "{effect}"}}}}"#);
                    let asked = ask(bundles, Entry::Tool, &input);
                    let reads = asked.decisions.iter().any(|said| said.rule == "tool.reads");
                    assert_eq!(reads, at % 2 == 0);
                }
            });
        }
    });
}
