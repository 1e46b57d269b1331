//! Offers of permessage-deflate and their answers (RFC 7692, 7.1; RFC 6455, 9.1).

use proptest::prelude::*;

use super::config;
use crate::ws::deflate::{Agreed, MalformedOffer, Window, negotiate};

const PLAIN: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

fn agreed(bits: u8, answer: &str) -> Result<Option<Agreed>, MalformedOffer> {
    Ok(Some(Agreed { window: Window::new(bits).expect("9 to 15"), answer: answer.to_owned() }))
}

fn offer(value: &str) -> Result<Option<Agreed>, MalformedOffer> {
    negotiate([value].into_iter())
}

#[test]
fn every_answer_forbids_context_takeover_in_both_directions() {
    for value in [
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; client_max_window_bits=8",
        "permessage-deflate; client_max_window_bits=15; server_no_context_takeover",
        "permessage-deflate; client_no_context_takeover",
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        "permessage-deflate;server_no_context_takeover;client_max_window_bits=\"10\"",
        "Permessage-DEFLATE ; Server_No_Context_Takeover\t; CLIENT_MAX_WINDOW_BITS = 9",
        "  permessage-deflate\t",
        ", ,permessage-deflate,,",
    ] {
        assert_eq!(offer(value), agreed(15, PLAIN), "{value}");
    }
}

#[test]
fn a_window_asked_for_is_kept_to_and_repeated() {
    for bits in 9..=15 {
        let answer = format!("{PLAIN}; server_max_window_bits={bits}");
        for value in [
            format!("permessage-deflate; server_max_window_bits={bits}"),
            format!("permessage-deflate; server_max_window_bits=\"{bits}\""),
            format!("permessage-deflate; client_max_window_bits; SERVER_MAX_WINDOW_BITS={bits}"),
        ] {
            assert_eq!(offer(&value), agreed(bits, &answer), "{value}");
        }
    }
    let escaped = r#"permessage-deflate; server_max_window_bits="\1\0""#;
    assert_eq!(offer(escaped), agreed(10, &format!("{PLAIN}; server_max_window_bits=10")));
}

#[test]
fn an_offer_that_cannot_be_kept_is_declined() {
    for parameters in [
        "server_max_window_bits=8",
        "server_max_window_bits=16",
        "server_max_window_bits=7",
        "server_max_window_bits=0",
        "server_max_window_bits=010",
        "server_max_window_bits=09",
        "server_max_window_bits=+9",
        "server_max_window_bits=-9",
        "server_max_window_bits=9x",
        "server_max_window_bits=271",
        "server_max_window_bits=99999999999999999999",
        "server_max_window_bits",
        "server_max_window_bits=10; server_max_window_bits=10",
        "server_max_window_bits=10; Server_Max_Window_Bits=11",
        "client_max_window_bits=7",
        "client_max_window_bits=16",
        "client_max_window_bits=015",
        "client_max_window_bits; client_max_window_bits",
        "client_max_window_bits=10; client_max_window_bits",
        "server_no_context_takeover=1",
        "server_no_context_takeover=\"true\"",
        "client_no_context_takeover=0",
        "server_no_context_takeover; server_no_context_takeover",
        "client_no_context_takeover; CLIENT_no_context_takeover",
        "server_max_window_bit=10",
        "mux",
    ] {
        assert_eq!(offer(&format!("permessage-deflate; {parameters}")), Ok(None), "{parameters}");
        // Whatever else it has, it stays declined.
        let more = format!("permessage-deflate; {parameters}; client_max_window_bits=\"12\"");
        assert_eq!(offer(&more), Ok(None), "{more}");
    }
}

#[test]
fn the_first_offer_that_can_be_kept_is_taken_wherever_it_stands() {
    let ten = agreed(10, &format!("{PLAIN}; server_max_window_bits=10"));
    let declined = "permessage-deflate; server_max_window_bits=8";
    let good = "permessage-deflate; server_max_window_bits=10";
    let later = "permessage-deflate";
    let other = "x-webkit-deflate-frame; a=\"1\"; b";
    assert_eq!(offer(&format!("{declined}, {good}, {later}")), ten);
    assert_eq!(offer(&format!("{other},{good}")), ten);
    assert_eq!(negotiate([other, declined, good, later].into_iter()), ten);
    assert_eq!(negotiate(["", " , ", good].into_iter()), ten);
    assert_eq!(negotiate([format!("{declined}, {other}").as_str(), later].into_iter()), agreed(15, PLAIN));
}

#[test]
fn nothing_is_answered_to_who_offers_nothing_of_this() {
    assert_eq!(negotiate(std::iter::empty()), Ok(None));
    for value in
        ["", "  ", ",", "foo", "foo; bar=baz, permessage-bzip2", "permessage-deflatex", "x; permessage-deflate"]
    {
        assert_eq!(offer(value), Ok(None), "{value}");
    }
}

#[test]
fn what_is_no_list_is_refused_even_behind_an_offer_that_could_be_taken() {
    for value in [
        "permessage-deflate;",
        ";",
        "=",
        "permessage-deflate; ; client_max_window_bits",
        "permessage-deflate; =10",
        "permessage-deflate; server_max_window_bits=",
        "permessage-deflate; server_max_window_bits=,",
        "permessage-deflate; server_max_window_bits=\"10",
        "permessage-deflate; server_max_window_bits=\"10\\",
        "permessage-deflate; server_max_window_bits=\"\"",
        "permessage-deflate; server_max_window_bits=\"1 0\"",
        "permessage-deflate; server_max_window_bits=\"1,0\"",
        "permessage-deflate; server_max_window_bits=10\"",
        "permessage-deflate; server_max_window_bits=10 10",
        "permessage-deflate; server_max_window_bits==10",
        "permessage-deflate client_max_window_bits",
        "permessage-deflate=1",
        "permessage/deflate",
        "foo; b\u{e4}r",
        "foo; bar=\"\u{e4}\"",
        "\"permessage-deflate\"",
        "foo bar",
        "foo(bar)",
    ] {
        assert_eq!(offer(value), Err(MalformedOffer), "{value}");
        assert_eq!(negotiate(["permessage-deflate", value].into_iter()), Err(MalformedOffer), "{value}");
        assert_eq!(offer(&format!("permessage-deflate, {value}")), Err(MalformedOffer), "{value}");
    }
}

#[test]
fn there_are_seven_windows() {
    for bits in 0..=u8::MAX {
        let window = Window::new(bits);
        assert_eq!(window.map(Window::bits), (9..=15).contains(&bits).then_some(bits));
        if let Some(window) = window {
            assert!(window.holds(1 << bits) && !window.holds((1 << bits) + 1));
        }
    }
}

/// A parameter as a client may write it, and whether it is one that can be accepted once.
fn parameter() -> impl Strategy<Value = (String, String, bool)> {
    let bits = 0..20_u8;
    prop_oneof![
        Just(("server_no_context_takeover".into(), String::new(), true)),
        Just(("client_no_context_takeover".into(), String::new(), true)),
        Just(("client_max_window_bits".into(), String::new(), true)),
        bits.clone()
            .prop_map(|bits| { ("server_max_window_bits".into(), format!("={bits}"), (9..=15).contains(&bits)) }),
        bits.prop_map(|bits| ("client_max_window_bits".into(), format!(" =\t\"{bits}\""), (8..=15).contains(&bits))),
        "[a-z_]{1,30}".prop_map(|name| (name, "=x".into(), false)),
    ]
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn an_offer_is_taken_if_each_parameter_is_known_right_and_alone(
        parameters in prop::collection::vec(parameter(), 0..5),
        is_upper: bool,
    ) {
        let mut value = String::from("permessage-deflate");
        let mut names = std::collections::HashSet::new();
        let mut is_right = true;
        let mut window = None;
        for (name, rest, is_known) in &parameters {
            is_right &= *is_known && names.insert(name);
            if name == "server_max_window_bits" {
                window = Some(&rest[1..]);
            }
            let name = if is_upper { name.to_uppercase() } else { name.clone() };
            value.push_str(&format!(" ; {name}{rest}"));
        }
        let expected = is_right.then(|| Agreed {
            window: window.map_or(Window::MAX, |bits| Window::new(bits.parse().unwrap()).unwrap()),
            answer: window.map_or(PLAIN.into(), |bits| format!("{PLAIN}; server_max_window_bits={bits}")),
        });
        prop_assert_eq!(offer(&value), Ok(expected));
    }

    #[test]
    fn no_value_makes_it_panic_and_what_is_answered_is_a_header(value in "[ \t,;=\"\\\\a-p0-9_é-]{0,60}") {
        let value = format!("permessage-deflate; server_max_window_bits={value}");
        if let Ok(Some(agreed)) = offer(&value) {
            prop_assert!(agreed.answer.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' '));
            prop_assert!(agreed.answer.starts_with(PLAIN));
        }
    }
}
