//! Texts to measure on, the same in every run.

/// What customers write, most of it without personal data.
const MESSAGES: [&str; 24] = [
    "Hi, I ordered a pair of running shoes two weeks ago and they still have not arrived. Can you check?",
    "The zip of my jacket broke after one day, so I would like to send it back and get a refund please.",
    "Is it possible to change the delivery address of an order that has already been shipped?",
    "thanks, that worked! one more thing: do you also sell gift cards in your stores?",
    "My order number is 20231105-4471 and the tracking page says it was delivered yesterday, but nobody was home.",
    "I was charged twice, $129.00 each time. Please cancel one of these payments as soon as you can.",
    "hello? is anybody there",
    "How long does standard shipping to Austria take, and what does express cost?",
    "I tried to reset my password three times but the e-mail never comes, not even in the spam folder.",
    "Could you tell me whether the blue one is back in stock in size 42?",
    "Sorry to bother you again. The agent I talked to on Monday promised that someone would look into it.",
    "I don't understand the invoice. Why is there a fee for returns, when the website says they are free?",
    "We bought the washing machine in 2021 and it is making a strange noise when it spins.",
    "ok great, so I just put everything back into the box and print the label, right?",
    "Your app keeps crashing when I open the basket, I have version 4.12.1 on an older phone.",
    "I want to speak to a person. This is the third time that I explain the same thing.",
    "What is the warranty on refurbished laptops, and does it cover the battery as well?",
    "Please delete my account and all the data you have about me, and confirm when it is done.",
    "The colour is lovely but it is much too small, do you exchange without the original receipt?",
    "Can I pay by invoice if I order as a company, and is there a discount from 10 pieces on?",
    "no worries, take your time, I am at work until five anyway",
    "The courier left the parcel at the wrong house and my neighbour brought it over in the evening.",
    "Does the coupon SUMMER20 still work? It says that it is expired at the checkout.",
    "I moved last month and forgot to tell you, where can I change that in my profile?",
];

/// With personal data: one in eight of what is written.
const PERSONAL: [&str; 8] = [
    "You can reach me at jo.miller@example.com or on 555-123-4567 after six.",
    "My card is 4111 1111 1111 1111, please check whether the refund went there.",
    "It's sarah_k88@mail.example.org, same as always.",
    "Call me back on +49 30 1234567, thanks.",
    "Please send it to 742 Evergreen Terrace, Springfield, IL 62704 instead.",
    "I was born on 6/24/1991 and my member id is 88213-77.",
    "The money should go to DE89 3704 0044 0532 0130 00.",
    "my number is four one five double two five oh one two three",
];

/// About `bytes` of messages.
pub(crate) fn ordinary(bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 200);
    let mut at = 0_usize;
    while text.len() < bytes {
        let message = if at % 8 == 7 { PERSONAL[at / 8 % 8] } else { MESSAGES[at * 7 % 24] };
        text.push_str(message);
        text.push('\n');
        at += 1;
    }
    text
}

/// Texts that are slow for who reads them twice, each with its name.
pub(crate) fn adversarial(bytes: usize) -> Vec<(String, String)> {
    let pieces = [
        "1",
        "1 ",
        "4 ",
        "00-",
        "4111 ",
        "4111 1111 1111 1111 ",
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
        "1/",
        "one ",
        "o ",
        "a at b dot ",
        "12 Park ",
        "[card-",
        "&#52;",
        "%34",
        "\u{200b}",
        "٤",
        "x",
        " ",
        "account number 1 ",
        "born 1/1/",
        "é1",
        "1 rue de ",
    ];
    pieces
        .into_iter()
        .map(|piece| (format!("{piece:?} again and again"), piece.repeat(bytes / piece.len())))
        .collect()
}
