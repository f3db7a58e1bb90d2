use proptest::prelude::*;

use super::*;

fn values(text: &str, language: Language) -> Vec<Value> {
    find(text, language).into_iter().map(|number| number.value).collect()
}

fn english(text: &str) -> Vec<Value> {
    values(text, Language::English)
}

fn german(text: &str) -> Vec<Value> {
    values(text, Language::German)
}

fn money(amount: f64, currency: &'static str) -> Value {
    Value::Money { amount, currency }
}

fn day(year: Option<u16>, month: u8, day: u8) -> Value {
    Value::Date { year, month, day: Some(day) }
}

#[test]
fn figures_mean_what_the_language_says() {
    assert_eq!(english("1,299 and 1.5 and 1,299.50"), [1299.0, 1.5, 1299.5].map(Value::Plain));
    assert_eq!(german("1.299 und 1,5 und 1.299,50"), [1299.0, 1.5, 1299.5].map(Value::Plain));
    assert_eq!(english("1’000’000"), [Value::Plain(1e6)]);
    assert_eq!(english("It costs 0.500"), [Value::Plain(0.5)]);
}

#[test]
fn money_has_its_currency_on_either_side() {
    for text in ["$9.95", "9.95 dollars", "USD 9.95", "9.95 USD"] {
        assert_eq!(english(text), [money(9.95, "USD")], "{text}");
    }
    for text in ["9,95 €", "€9,95", "9,95 Euro", "EUR 9,95"] {
        assert_eq!(german(text), [money(9.95, "EUR")], "{text}");
    }
    assert_eq!(english("2 million euros"), [money(2e6, "EUR")]);
    assert_eq!(english("£5 or €6"), [money(5.0, "GBP"), money(6.0, "EUR")]);
    assert_eq!(english("$30 a month"), [money(30.0, "USD")]);
}

#[test]
fn lengths_of_time_have_one_form() {
    for text in ["14 days", "two weeks", "a 14-day window", "336 hours", "zwei Wochen"] {
        assert_eq!(english(text), [Value::Hours(336.0)], "{text}");
    }
    assert_eq!(english("24 months or 2 years"), [Value::Months(24.0), Value::Months(24.0)]);
    assert_eq!(english("3 to 5 business days"), [Value::WorkingDays(3.0), Value::WorkingDays(5.0)]);
    assert_eq!(german("3-5 Werktage"), [Value::WorkingDays(3.0), Value::WorkingDays(5.0)]);
    assert_eq!(german("zwischen 2 und 4 Wochen"), [Value::Hours(336.0), Value::Hours(672.0)]);
}

#[test]
fn dates_and_times_are_read_in_the_usual_forms() {
    for text in ["2026-05-01", "May 1, 2026", "1 May 2026", "1st of May 2026", "5/1/2026"] {
        assert_eq!(english(text), [day(Some(2026), 5, 1)], "{text}");
    }
    for text in ["1. Mai 2026", "01.05.2026", "1.5.26", "1/5/2026"] {
        assert_eq!(german(text), [day(Some(2026), 5, 1)], "{text}");
    }
    assert_eq!(english("by May 2026"), [Value::Date { year: Some(2026), month: 5, day: None }]);
    assert_eq!(english("You may 3 times"), [Value::Plain(3.0)]);
    for text in ["6 pm", "6:00 p.m.", "18:00"] {
        assert_eq!(english(text), [Value::Time(1080)], "{text}");
    }
    assert_eq!(german("um 18 Uhr, um 9:30 Uhr"), [Value::Time(1080), Value::Time(570)]);
    assert_eq!(english("12 am and 12 pm"), [Value::Time(0), Value::Time(720)]);
}

#[test]
fn spelled_numbers_are_numbers() {
    assert_eq!(english("twenty-one, two hundred and five"), [21.0, 205.0].map(Value::Plain));
    assert_eq!(english("three thousand four hundred"), [Value::Plain(3400.0)]);
    assert_eq!(
        german("einundzwanzig, zweihundertfünf, dreitausendvierhundert"),
        [21.0, 205.0, 3400.0].map(Value::Plain)
    );
    assert_eq!(english("five and six"), [5.0, 6.0].map(Value::Plain));
    assert_eq!(english("ten percent, 10 %, 10 per cent"), [Value::Percent(10.0); 3]);
    assert_eq!(english("within one day"), [Value::Hours(24.0)]);
    assert!(english("this one is the one").is_empty());
    assert!(german("ein Paket").is_empty());
}

#[test]
fn codes_are_no_numbers() {
    for text in [
        "A4711",
        "order #4711",
        "WX-12",
        "version 3.11.2",
        "4711B",
        "+49 30-555-12345678",
        "12345678901234567",
    ] {
        let found = english(text);
        assert!(
            !found.iter().any(|value| matches!(value, Value::Plain(v) if *v > 100.0)),
            "{text}: {found:?}"
        );
    }
    assert!(english("A4711 WX-12 4711B").is_empty());
}

#[test]
fn units_are_compared_not_only_figures() {
    let one = |text| find(text, Language::English).remove(0);
    assert!(one("14 days").agrees(&one("two weeks")));
    assert!(one("30 items").agrees(&one("30 days")), "one of them does not say what it counts");
    assert!(one("May 1").agrees(&one("1 May 2026")));
    assert!(one("2 kg").agrees(&one("2000 g")));
    for (a, b) in [
        ("30 days", "30 hours"),
        ("30 days", "30 business days"),
        ("$30", "€30"),
        ("30 %", "$30"),
        ("30 days", "31 days"),
        ("May 1", "May 2"),
        ("1 May 2025", "1 May 2026"),
        ("6 am", "6 pm"),
    ] {
        assert!(!one(a).agrees(&one(b)), "{a} and {b}");
    }
}

#[test]
fn a_span_holds_figure_and_unit() {
    let text = "It takes 3 to 5 days, für 9,95 €.";
    let found: Vec<&str> = find(text, Language::German).iter().map(|number| number.span.of(text)).collect();
    assert_eq!(found, ["3", "5 days", "9,95 €"]);
}

proptest! {
    #[test]
    fn spans_are_in_order_and_on_characters(text in r"([0-9.,:/'€$% -]|[a-zäß]{1,3}|May|Mai|two|hundred|and|tage|\PC){0,40}") {
        for language in [Language::English, Language::German] {
            let mut end = 0;
            for number in find(&text, language) {
                prop_assert!(number.span.bytes.start >= end && number.span.bytes.end > number.span.bytes.start);
                end = number.span.bytes.end;
                prop_assert!(text.get(number.span.bytes.clone()).is_some());
                prop_assert!(number.figure.is_finite());
                prop_assert!(number.agrees(&number));
            }
        }
    }
}
