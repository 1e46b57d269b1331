//! Values of flags that are more than one number: steps, ramps, bursts, headers.

use std::str::FromStr;

use crate::scenario::RateStep;
use crate::units::Span;

/// `100:5s,200:5s`: publications a second, and how long.
#[derive(Debug, Clone, PartialEq)]
pub struct Steps(pub Vec<RateStep>);

/// `100..1000`: publications a second at the beginning and at the end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ramp {
    /// At the beginning.
    pub from: f64,
    /// At the end.
    pub to: f64,
}

/// `64/100ms`: so many at once, and again after so long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Burst {
    /// Publications of one burst.
    pub size: u32,
    /// From one to the next.
    pub every: Span,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: Option<f64> = text.trim().parse().ok().filter(|rate: &f64| rate.is_finite());
    rate.ok_or_else(|| format!("'{text}' is no rate: write publications a second, such as 100"))
}

impl FromStr for Steps {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let steps = text.split(',').map(|step| {
            let wrong = || format!("'{step}' is no step: write RATE:DURATION, such as 100:5s");
            let (rate_per_s, duration) = step.split_once(':').ok_or_else(wrong)?;
            Ok(RateStep { rate_per_s: rate(rate_per_s)?, duration: duration.parse()? })
        });
        steps.collect::<Result<_, _>>().map(Self)
    }
}

impl FromStr for Ramp {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is no ramp: write FROM..TO, such as 100..1000");
        let (from, to) = text.split_once("..").ok_or_else(wrong)?;
        Ok(Self { from: rate(from)?, to: rate(to)? })
    }
}

impl FromStr for Burst {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is no burst: write SIZE/EVERY, such as 64/100ms");
        let (size, every) = text.split_once('/').ok_or_else(wrong)?;
        Ok(Self { size: size.trim().parse().map_err(|_| wrong())?, every: every.parse()? })
    }
}

/// `K: V`
pub fn header(text: &str) -> Result<(String, String), String> {
    let wrong = || format!("'{text}' is no header: write 'NAME: VALUE'");
    let (name, value) = text.split_once(':').ok_or_else(wrong)?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

/// `KEY.PATH=VALUE`
pub fn setting(text: &str) -> Result<(String, String), String> {
    let wrong = || format!("'{text}' is no setting: write KEY.PATH=VALUE, such as connections.churn_lifetime=2s");
    let (path, value) = text.split_once('=').ok_or_else(wrong)?;
    Ok((path.trim().to_owned(), value.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_what_is_read(rates in prop::collection::vec(0.001..1e7, 1..9), ms in 1_u64..100_000, size: u32) {
            let every = Span(std::time::Duration::from_millis(ms));
            let steps: Vec<_> = rates.iter().map(|&rate_per_s| RateStep { rate_per_s, duration: every }).collect();
            let text: Vec<_> = rates.iter().map(|rate| format!("{rate}:{every}")).collect();
            prop_assert_eq!(text.join(",").parse(), Ok(Steps(steps)));
            let ramp = Ramp { from: rates[0], to: rates[rates.len() - 1] };
            prop_assert_eq!(format!("{}..{}", ramp.from, ramp.to).parse(), Ok(ramp));
            prop_assert_eq!(format!("{size}/{every}").parse(), Ok(Burst { size, every }));
        }

        #[test]
        fn no_text_makes_them_panic(text in "[0-9a-z:,./ =]{0,16}") {
            let _ = (text.parse::<Steps>(), text.parse::<Ramp>(), text.parse::<Burst>(), header(&text), setting(&text));
        }
    }

    #[test]
    fn what_is_written_otherwise_is_refused_with_an_example() {
        for text in ["100", "100:", "x:5s", "100:5s,", "100:5", "nan:5s", "inf:1s"] {
            assert!(text.parse::<Steps>().is_err(), "{text}");
        }
        for text in ["100", "100..", "..5", "a..b", "1..inf"] {
            assert!(text.parse::<Ramp>().is_err(), "{text}");
        }
        for text in ["64", "64/", "64/100", "-1/1s", "1.5/1s"] {
            assert!(text.parse::<Burst>().is_err(), "{text}");
        }
        assert!(header("novalue").unwrap_err().contains("NAME: VALUE") && setting("novalue").is_err());
        assert_eq!(header("A: b: c"), Ok(("A".into(), "b: c".into())));
    }
}
