use proptest::prelude::*;

use super::*;

fn kinds(text: &str) -> Vec<(Kind, &str)> {
    find(text).iter().map(|entity| (entity.kind, entity.span.of(text))).collect()
}

fn redacted(text: &str) -> String {
    redact(text, &mut Pseudonyms::default()).text
}

#[test]
fn every_kind_is_found_with_its_extent() {
    for (text, kind, value) in [
        ("mail Jörg.Müller+x@shop.example.de.", Kind::Email, "Jörg.Müller+x@shop.example.de"),
        ("<a@b.io>", Kind::Email, "a@b.io"),
        ("email=jo@b.io&x", Kind::Email, "jo@b.io"),
        ("card 4111 1111 1111 1111 12/27", Kind::Card, "4111 1111 1111 1111"),
        ("4111-1111-1111-1111, please", Kind::Card, "4111-1111-1111-1111"),
        ("my card 3500 0000 0000 0009", Kind::Card, "3500 0000 0000 0009"),
        ("4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1", Kind::Card, "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1"),
        ("amex 3782 822463 10005!", Kind::Card, "3782 822463 10005"),
        ("meine IBAN de89 3704 0044 0532 0130 00 bitte", Kind::Iban, "de89 3704 0044 0532 0130 00"),
        ("GB29NWBK60161331926819.", Kind::Iban, "GB29NWBK60161331926819"),
        ("from 203.0.113.7.", Kind::Ip, "203.0.113.7"),
        ("from 2001:db8::ff00:42:8329, ok", Kind::Ip, "2001:db8::ff00:42:8329"),
        ("460-89-9847", Kind::NationalId, "460-89-9847"),
        ("my ssn: 460899847", Kind::NationalId, "460899847"),
        ("NI no QQ is bad, AB 12 34 56 C", Kind::NationalId, "AB 12 34 56 C"),
        ("Steuer-ID 86 095 742 719", Kind::NationalId, "86 095 742 719"),
        ("DNI 12345678Z", Kind::NationalId, "12345678Z"),
        ("my card \t+49 171 9580657", Kind::Phone, "+49 171 9580657"),
        ("+49 (0)30 1234567", Kind::Phone, "+49 (0)30 1234567"),
        ("(+44) 20 7946 0958", Kind::Phone, "(+44) 20 7946 0958"),
        ("(555) 123-4567.", Kind::Phone, "(555) 123-4567"),
        ("1-800-555-0199", Kind::Phone, "1-800-555-0199"),
        ("555-123-4567 x89", Kind::Phone, "555-123-4567 x89"),
        ("06.10.99.23.65", Kind::Phone, "06.10.99.23.65"),
        ("030/1234567", Kind::Phone, "030/1234567"),
        ("01712345678", Kind::Phone, "01712345678"),
        ("0049 171 1234567", Kind::Phone, "0049 171 1234567"),
        ("call me at 612 34 56 78", Kind::Phone, "612 34 56 78"),
        ("mail me at jo@home.de...thanks", Kind::Email, "jo@home.de"),
        ("it is...jo@home.de", Kind::Email, "jo@home.de"),
    ] {
        assert_eq!(kinds(text), [(kind, value)], "{text:?}");
    }
}

#[test]
fn a_card_is_found_whatever_mark_or_script_stands_beside_it() {
    for around in [
        "Card #N",
        "card=N",
        "no.N",
        "Smith,N,12/27",
        "Visa/N",
        "N:123",
        "番号はNです",
        "卡号N。",
        "(1)N",
        "...N...",
        "N/12/27",
        "Karte:N-Danke",
        "@N",
    ] {
        for number in [
            "4111111111111111",
            "4111 - 1111 - 1111 - 1111",
            "4111  1111  1111  1111",
            "４１１１１１１１１１１１１１１１",
        ] {
            let text = around.replace('N', number);
            assert_eq!(kinds(&text), [(Kind::Card, number)], "{text:?}");
        }
    }
    assert_eq!(kinds("0.4111111111111111"), []);
}

#[test]
fn a_line_break_hides_no_number() {
    for (before, kind, value) in [
        ("my card is ", Kind::Card, "4111 1111\n1111 1111"),
        ("my card is ", Kind::Card, "4111 1111 \r\n  1111 1111"),
        ("card: ", Kind::Card, "41111111\n11111111"),
        ("", Kind::Card, "4111\n1111\n1111\n1111"),
        ("pay 4111 ", Kind::Card, "5555 5555-\n5555 4444"),
        ("", Kind::Card, "4123 - 2955 - 6390 -\n7260"),
        ("", Kind::NationalId, "460-89-\n9847"),
        ("my ssn ", Kind::NationalId, "460 89\n9847"),
        ("Steuer-ID ", Kind::NationalId, "86 095\n742 719"),
        ("call me at ", Kind::Phone, "555\n123\n4567"),
        ("call me at ", Kind::Phone, "(555)\n123-4567"),
        ("", Kind::Phone, "+49 171\n1234567"),
        ("", Kind::Phone, "+49 171 12\n34567"),
        ("", Kind::Iban, "DE89 3704 0044\n0532 0130 00"),
        ("IBAN:\n", Kind::Iban, "GB29 NWBK\r\n 6016 1331 9268 19"),
    ] {
        for behind in ["", "\n", ".\n", "\nThank you", " and more"] {
            let text = format!("{before}{value}{behind}");
            assert_eq!(kinds(&text), [(kind, value)], "{text:?}");
        }
    }
    // What fills its line ends there.
    for (text, found) in [
        ("4111 1111 1111 1111\n123", &[(Kind::Card, "4111 1111 1111 1111")][..]),
        ("+49 30 123456\n10115 Berlin", &[(Kind::Phone, "+49 30 123456")]),
        ("call me at 555 1234\n555 9876", &[(Kind::Phone, "555 1234"), (Kind::Phone, "555 9876")]),
        ("AB-1234\n0612345678", &[(Kind::Phone, "0612345678")]),
        ("555-123-4567\n555-123-4568", &[(Kind::Phone, "555-123-4567"), (Kind::Phone, "555-123-4568")]),
    ] {
        assert_eq!(kinds(text), found, "{text:?}");
    }
    for text in [
        "4111\n1111\n1111\n1111\n2500",
        "2019\n4111\n1111\n1111\n1111",
        "460\n89\n9847",
        "555\n123\n4567",
        "my numbers are\n12\n15\n22\n31\n45",
        "1\n2\n3\n4\n7\n9\n2\n5\n8\n0\n3",
        "4111 1111\n\n1111 1111",
        "4111 1111\n- 1111 1111",
    ] {
        assert_eq!(kinds(text), [], "{text:?}");
    }
}

#[test]
fn a_phone_number_is_found_beside_a_mark_where_it_is_called_one() {
    for (text, value) in [
        ("Tel.030 1234567", "030 1234567"),
        ("phone=+49 30 1234567", "+49 30 1234567"),
        ("tel#555-123-4567", "555-123-4567"),
        ("Smith,030 1234567,Berlin", "030 1234567"),
        ("電話は03-1234-5678です", "03-1234-5678"),
        ("電話０３－１２３４－５６７８", "０３－１２３４－５６７８"),
    ] {
        assert_eq!(kinds(text), [(Kind::Phone, value)], "{text:?}");
    }
    for text in ["id=0612345678", "#555-123-4567", "call about AB-555-123-4567", "shop.de/0612345678/x"] {
        assert_eq!(kinds(text), [], "{text:?}");
    }
}

#[test]
fn full_width_text_is_read_as_plain_and_given_back_as_written() {
    let mut pseudonyms = Pseudonyms::default();
    let text = "é ４１１１ １１１１ １１１１ １１１１, ｊｏ＠ｈｏｍｅ．ｄｅ ［card-1］";
    let redacted = redact(text, &mut pseudonyms);
    assert_eq!(redacted.text, "é [card-1], [email-1] [literal-1]");
    assert_eq!(pseudonyms.restore(&redacted.text).text, text);
    assert_eq!(redact("4111111111111111 JO@home.de", &mut pseudonyms).text, "[card-1] [email-1]");
}

#[test]
fn numbering_begins_where_it_is_told_to() {
    let mut pseudonyms = Pseudonyms::default().starting_at(4711);
    assert_eq!(
        redact("a@b.de c@d.de 4111111111111111", &mut pseudonyms).text,
        "[email-4711] [email-4712] [card-4711]"
    );
    assert_eq!(pseudonyms.restore("[email-1] [email-4712]").text, "[email-1] c@d.de");
}

#[test]
fn other_numbers_are_left_alone() {
    for text in [
        "order 4111 1111 1111 1112",
        "order 3500 0000 0000 0009",
        "gift card number 3500 0000 0000 0009",
        "order number 555-123-4567",
        "Bestellnummer 0612345678",
        "order #20231105-4471",
        "invoice 2023-001-4567",
        "It costs 1,299.00 or $1 234 567",
        "from 01.02.2024 10:30 to 31.12.2024",
        "2024-01-15 12:30:45",
        "in 2019, 2020 and 2021",
        "1234567890123",
        "sizes 36 38 40 42 44 46",
        "open 09.00 - 12.30 14.00",
        "version 10.2.13.4",
        "1.2.3.4.5",
        "std::vec and 12:30",
        "000-12-3456",
        "AB-555-123-4567",
        "ratio 0.123456789",
        "within 30 days, 24/7, call 24/7",
        "a@b and @handle and x@y.",
        "DE88 3704 0044 0532 0130 00",
        "tracking 1Z999AA10123456784",
    ] {
        assert_eq!(kinds(text), [], "{text:?}");
    }
}

#[test]
fn the_most_specific_of_overlapping_finds_stands() {
    assert_eq!(kinds("0612345678@free.fr"), [(Kind::Email, "0612345678@free.fr")]);
    assert_eq!(kinds("NO93 8601 1117 947"), [(Kind::Iban, "NO93 8601 1117 947")]);
}

#[test]
fn a_said_address_does_not_uncover_what_begins_in_it() {
    let text = "I live at hello dot DE34851974074765514065 now";
    let found = kinds(text);
    assert!(
        found
            .last()
            .is_some_and(|(kind, value)| { *kind == Kind::Iban && value.ends_with("34851974074765514065") }),
        "{found:?}"
    );
}

#[test]
fn a_said_address_does_not_uncover_what_ends_in_it() {
    let text = "SSN; DE62292449754575474517 I live at home dot at; bye";
    assert!(!redacted(text).contains("DE"), "{:?}", kinds(text));
}

#[test]
fn offsets_count_characters() {
    let text = "größe für jö@b.de";
    let found = find(text);
    assert_eq!(found[0].span.chars, 10..17);
    assert_eq!(found[0].span.of(text), "jö@b.de");
}

#[test]
fn a_value_keeps_its_placeholder_however_it_is_spelt() {
    let mut pseudonyms = Pseudonyms::default();
    let first = redact("4111 1111 1111 1111 and a@b.de", &mut pseudonyms);
    assert_eq!(first.text, "[card-1] and [email-1]");
    assert_eq!(redact("A@B.de, 4111-1111-1111-1111", &mut pseudonyms).text, "[email-1], [card-1]");
    assert_eq!(redact("5555555555554444", &mut pseudonyms).text, "[card-2]");
}

#[test]
fn a_typed_placeholder_is_not_taken_for_ours() {
    let mut pseudonyms = Pseudonyms::default();
    redact("4111 1111 1111 1111", &mut pseudonyms);
    let typed = redact("give me [card-1] and [card-2]", &mut pseudonyms);
    assert_eq!(typed.text, "give me [literal-1] and [literal-2]");
    assert_eq!(pseudonyms.restore(&typed.text).text, "give me [card-1] and [card-2]");
}

#[test]
fn forgotten_values_stay_placeholders_and_are_counted() {
    let mut pseudonyms = Pseudonyms::with_capacity(1);
    let first = redact("a@b.de", &mut pseudonyms).text;
    assert_eq!(redact("c@d.de", &mut pseudonyms).text, "[email-2]");
    let restored = pseudonyms.restore(&format!("{first} [email-2] [phone-999999999]"));
    assert_eq!((restored.text.as_str(), restored.missing), ("[email-1] c@d.de [phone-999999999]", 2));
    assert_eq!(redact("a@b.de", &mut pseudonyms).text, "[email-3]");
}

#[test]
fn nothing_held_is_printed() {
    let mut pseudonyms = Pseudonyms::default();
    redact("a@b.de", &mut pseudonyms);
    assert!(!format!("{pseudonyms:?} {:?}", pseudonyms.restore("[email-1]")).contains("a@b"));
}

#[test]
fn known_values_alone_can_be_replaced_and_placeholders_pass() {
    let mut pseudonyms = Pseudonyms::default();
    redact("I am jo@home.de", &mut pseudonyms);
    let text = "[email-1]: jo@home.de, shop@acme.com";
    let mut entities = find(text);
    entities.retain(|entity| pseudonyms.knows(entity.kind, entity.span.of(text)));
    let out = replace(text, entities, &mut pseudonyms);
    assert_eq!(out.text, "[email-1]: [email-1], shop@acme.com");
}

#[test]
fn hostile_texts_take_linear_time() {
    for piece in [
        "1",
        "1 ",
        "4 ",
        "0 0",
        "00-",
        "4111 ",
        "a@",
        "a@a.bb",
        "@",
        "a.",
        "::",
        "1:",
        "1.1.",
        "DE89 ",
        "+1",
        "call 1 ",
        "1 1 1 ",
        "1 - ",
        "1/",
        "a.a",
        "a@a.bb..",
        "tel.1 ",
        "１ ",
        "４１１１－",
        "1\n",
        "12 34\n",
        "4111,",
        "4111|1111 ",
        "card_4111",
        "4\u{336}",
        "DE89\n",
    ] {
        // A quadratic scan takes minutes for this.
        let text = piece.repeat(320_000 / piece.len());
        assert!(!redacted(&text).is_empty());
    }
}

#[test]
fn what_was_said_is_found_with_its_extent() {
    for (text, kind, value) in [
        (
            "my number is four one five, double two five, oh one two three thanks",
            Kind::Phone,
            "four one five, double two five, oh one two three",
        ),
        ("call me on 4 1 5 5 5 5 1 2 1 7 please", Kind::Phone, "4 1 5 5 5 5 1 2 1 7"),
        (
            "the card is four one one one one one one one one one one one one one one one",
            Kind::Card,
            "four one one one one one one one one one one one one one one one",
        ),
        (
            "my social is four six zero eight nine nine eight four seven",
            Kind::NationalId,
            "four six zero eight nine nine eight four seven",
        ),
        ("it is a b one two three four five six c", Kind::NationalId, "a b one two three four five six c"),
        (
            "my date of birth is july fourth nineteen eighty four",
            Kind::DateOfBirth,
            "july fourth nineteen eighty four",
        ),
        ("account number is double seven one two three", Kind::Record, "double seven one two three"),
        ("jay at acme dot com", Kind::Email, "jay at acme dot com"),
    ] {
        assert_eq!(kinds(text), [(kind, value)], "{text:?}");
    }
}

#[test]
fn words_around_say_what_a_number_is() {
    for (text, kind, value) in [
        ("I was born on 6/24/1991.", Kind::DateOfBirth, "6/24/1991"),
        ("6/24/1991 is my date of birth", Kind::DateOfBirth, "6/24/1991"),
        ("DOB: 1991-06-24", Kind::DateOfBirth, "1991-06-24"),
        ("geboren am 4. Juli 1984", Kind::DateOfBirth, "4. Juli 1984"),
        ("MRN 00482913", Kind::Record, "00482913"),
        ("my member id is 88213-77.", Kind::Record, "88213-77"),
        ("patient no. A-772310", Kind::Record, "A-772310"),
        ("12345678 is my account number", Kind::Record, "12345678"),
        ("passport number C01X00T478", Kind::NationalId, "C01X00T478"),
        ("I live at 742 Evergreen Terrace", Kind::Address, "742 Evergreen Terrace"),
        ("they are not answering at 78 651 450", Kind::Phone, "78 651 450"),
        ("(37) 788-063", Kind::Phone, "(37) 788-063"),
        ("CPF 111.444.777-35", Kind::NationalId, "111.444.777-35"),
        ("756.9217.0769.85", Kind::NationalId, "756.9217.0769.85"),
        ("131052-308T", Kind::NationalId, "131052-308T"),
        ("RSSMRA85T10A562S", Kind::NationalId, "RSSMRA85T10A562S"),
    ] {
        assert_eq!(kinds(text), [(kind, value)], "{text:?}");
    }
    for text in [
        "delivered on 6/24/1991",
        "four of my five orders, one of them from two thousand and four",
        "I have one account since 2019",
        "we met at nine at the dot com office",
        "one two three four five six seven eight nine ten",
    ] {
        assert_eq!(kinds(text), [], "{text:?}");
    }
}

#[test]
fn disguises_are_seen_through_and_kept_as_written() {
    for (text, kind, value) in [
        (
            "pay 4111\u{200b}1111\u{200b}1111\u{200b}1111 ok",
            Kind::Card,
            "4111\u{200b}1111\u{200b}1111\u{200b}1111",
        ),
        ("pay ٤١١١ ١١١١ ١١١١ ١١١١ ok", Kind::Card, "٤١١١ ١١١١ ١١١١ ١١١١"),
        ("jо@hоmе.cоm", Kind::Email, "jо@hоmе.cоm"),
        ("jo&#64;home.de", Kind::Email, "jo&#64;home.de"),
        ("jo%40home.de", Kind::Email, "jo%40home.de"),
        ("&#52;111111111111111", Kind::Card, "&#52;111111111111111"),
        (
            "4\u{fe0f}\u{20e3}111 1\u{336}111 1111 1111",
            Kind::Card,
            "4\u{fe0f}\u{20e3}111 1\u{336}111 1111 1111",
        ),
        ("𝟒𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏", Kind::Card, "𝟒𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏"),
        ("jo (at) home (dot) de", Kind::Email, "jo (at) home (dot) de"),
        ("4111\u{a0}1111\u{a0}1111\u{a0}1111", Kind::Card, "4111\u{a0}1111\u{a0}1111\u{a0}1111"),
    ] {
        assert_eq!(kinds(text), [(kind, value)], "{text:?}");
    }
}

#[test]
fn padding_hides_no_number() {
    let digits = "4111111111111111".chars().map(String::from).collect::<Vec<_>>();
    for mark in ["\u{200b}", "\u{e0041}", "\u{ad}", "\u{336}", "\u{301}", "\u{5b0}", "\u{200b}\u{301}"] {
        for times in [1, 40, 400] {
            let card = digits.join(&mark.repeat(times));
            for text in
                [card.clone(), format!("my card {card} please"), format!("{} {card}", "7 ".repeat(3000))]
            {
                let found = kinds(&text);
                let value = found.last().filter(|(kind, _)| *kind == Kind::Card).map(|(_, value)| *value);
                assert_eq!(value, Some(card.as_str()), "{times} of {mark:?}");
            }
        }
    }
}

#[test]
fn a_cut_goes_through_no_padded_number() {
    let digits = "4111111111111111".chars().map(String::from).collect::<Vec<_>>();
    let card = digits.join(&"\u{200b}".repeat(700));
    for before in (1_800..2_200).step_by(23) {
        let text = format!("{}{card} is my card", "7 ".repeat(before));
        let left = without_placeholders(&redacted(&text)).replace('\u{200b}', "");
        assert!(!left.contains("1111"), "behind {before} figures");
    }
}

#[test]
fn what_is_padded_beyond_measure_is_hidden_whatever_it_is() {
    let padding = "\u{200b}".repeat(5000);
    let card = "4111 1111 1111 1111".chars().map(String::from).collect::<Vec<_>>().join(&padding);
    for card in [card.clone(), format!("4{}111 1111 1111 1111", padding.repeat(5))] {
        let text = format!(
            "I have a question about my last bill. My card is {card}, and that is all that I know. \
             Thank you for looking into this, and have a nice day."
        );
        let left = without_placeholders(&redacted(&text));
        assert!(!left.contains(|c: char| c.is_ascii_digit()), "{left}");
        assert!(
            left.starts_with("I have a question about my") && left.ends_with("have a nice day."),
            "{left}"
        );
    }
    // Padding alone hides nothing.
    let text = format!("{} hello there {}", padding.repeat(9), padding.repeat(9));
    assert!(
        find(&format!("{}card 4111 1111 1111 1111", padding.repeat(9)))
            .iter()
            .any(|found| found.kind == Kind::Card)
    );
    assert!(find(&text).iter().all(|found| found.detector == "padded"));
}

#[test]
fn a_value_has_one_placeholder_said_or_written() {
    let mut pseudonyms = Pseudonyms::default();
    for (said, written) in [
        ("call four one five, double two five, oh one two three", "call 415-225-0123"),
        ("j o h n underscore doe at gmail dot com", "John_Doe@gmail.com"),
        ("born july fourth nineteen eighty four", "born 7/4/1984"),
        ("account number double seven one two three", "account number 77123"),
    ] {
        let placeholder =
            |redacted: Redacted| redacted.replaced.into_iter().map(|one| one.placeholder).collect::<Vec<_>>();
        let first = placeholder(redact(said, &mut pseudonyms));
        assert_eq!(first.len(), 1, "{said}");
        assert_eq!(first, placeholder(redact(written, &mut pseudonyms)), "{written}");
    }
}

#[test]
fn names_from_a_model_stand_beside_what_was_found() {
    let text = "é Ann Lee, jo@home.de, Bonn";
    let named = |from: usize, to: usize, kind| Entity {
        span: Span { bytes: from..to, chars: 0..0 },
        kind,
        score: 0.9,
        detector: "model",
    };
    let place = text.find("Bonn").unwrap();
    let given = vec![
        named(place, place + 4, Kind::Place),
        named(3, 10, Kind::Person),
        named(12, 14, Kind::Person),
        named(1, 2, Kind::Person),
        named(5, 99, Kind::Person),
    ];
    let all = with_named(text, find(text), given);
    let found: Vec<_> = all.iter().map(|entity| (entity.kind, entity.span.of(text))).collect();
    assert_eq!(found, [(Kind::Person, "Ann Lee"), (Kind::Email, "jo@home.de"), (Kind::Place, "Bonn")]);
    assert_eq!(all[0].span.chars, 2..9);
    let redacted = replace(text, all, &mut Pseudonyms::default());
    assert_eq!(redacted.text, "é [person-1], [email-1], [place-1]");
}

#[test]
fn a_name_that_touches_a_number_is_hidden_beside_it() {
    let text = "Anna Schmidt 4111 1111 1111 1111 Keller, thanks";
    let person = Entity {
        span: Span { bytes: 0..39, chars: 0..39 },
        kind: Kind::Person,
        score: 0.9,
        detector: "model",
    };
    let all = with_named(text, find(text), vec![person]);
    let redacted = replace(text, all, &mut Pseudonyms::default());
    assert_eq!(redacted.text, "[person-1] [card-1] [person-2], thanks");
}

#[test]
fn only_the_kinds_that_are_asked_for_are_found() {
    let text = "jo@home.de 4111 1111 1111 1111 203.0.113.7";
    for kind in [Kind::Email, Kind::Card, Kind::Ip] {
        let found = find_kinds(text, Kinds::NONE.with(kind));
        assert_eq!(found.iter().map(|entity| entity.kind).collect::<Vec<_>>(), [kind]);
    }
    assert_eq!(find_kinds(text, Kinds::ALL.without(Kind::Email)).len(), 2);
}

proptest! {
    #[test]
    fn finds_are_in_order_and_in_bounds(text in r"(?s)[0-9０-９ +\-.()@:a-zA-Zé\[\]]{0,120}") {
        let mut end = 0;
        for entity in find(&text) {
            prop_assert!(entity.span.bytes.start >= end && !entity.span.bytes.is_empty());
            prop_assert_eq!(text[..entity.span.bytes.start].chars().count(), entity.span.chars.start);
            prop_assert_eq!(text[..entity.span.bytes.end].chars().count(), entity.span.chars.end);
            end = entity.span.bytes.end;
        }
    }

    #[test]
    fn restoring_gives_the_text_back(
        pieces in prop::collection::vec(prop_oneof![
            Just("[card-1]"), Just("[card-"), Just("1]"), Just("[email-2]"), Just("[literal-1]"), Just(" "),
            Just("4111 1111 1111 1111"), Just("a@b.de"), Just("+49 30 1234567"), Just("460-89-9847"), Just("x"),
            Just("["), Just("]"), Just("203.0.113.7"),
        ], 0..24),
    ) {
        let text = pieces.concat();
        let mut pseudonyms = Pseudonyms::default();
        let redacted = redact(&text, &mut pseudonyms);
        let restored = pseudonyms.restore(&redacted.text);
        // Pieces that touch can spell one value in two ways; it comes back in the first.
        let bare = |text: &str| text.replace([' ', '-'], "");
        prop_assert_eq!(bare(&restored.text), bare(&text));
        prop_assert_eq!(restored.missing, 0);
    }
}
