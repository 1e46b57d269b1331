//! Durations, sizes and shares as people write them: `10s`, `250ms`, `4KiB`, `5%`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A duration, written with its unit: `500us`, `250ms`, `10s`, `1m`, `2h`. Plain `0` needs none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub Duration);

/// A number of bytes, written `128`, `4KiB`, `1MiB`, or (powers of ten) `4kB`, `1MB`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(pub u64);

/// So many of something, or a share of a total: `50`, `5%`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Amount {
    /// So many.
    Count(u64),
    /// So many of a hundred, from 0 to 100.
    Percent(f64),
}

impl Default for Amount {
    fn default() -> Self {
        Self::Count(0)
    }
}

/// A decimal number, exactly: `digits` divided by ten to the power of `decimals`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Decimal {
    digits: u128,
    decimals: u32,
}

impl Decimal {
    /// Only digits with at most one point among them: no sign, no exponent, no `NaN`.
    fn parse(text: &str) -> Option<Self> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = format!("{whole}{fraction}");
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let decimals = u32::try_from(fraction.len()).ok()?;
        is_number.then_some(Self { digits: digits.parse().ok()?, decimals })
    }

    /// This number of units as a number of parts; none if it is not whole, or too large to be reckoned with.
    fn times(self, parts_of_unit: u128) -> Option<u128> {
        let parts = self.digits.checked_mul(parts_of_unit)?;
        let divisor = 10_u128.checked_pow(self.decimals)?;
        parts.is_multiple_of(divisor).then(|| parts / divisor)
    }
}

/// Splits `12.5ms` into the number and what stands behind it.
fn split(text: &str) -> Result<(Decimal, &str), String> {
    let text = text.trim();
    if text.starts_with('-') {
        return Err(format!("'{text}' is negative"));
    }
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let Some(decimal) = Decimal::parse(number) else {
        return Err(format!("'{text}' does not begin with a number"));
    };
    Ok((decimal, unit.trim()))
}

const SPAN_UNITS: [(&str, u128); 6] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = split(text)?;
        let unit_ns = match unit {
            "" if number.digits == 0 => 1,
            "" => return Err(format!("'{text}' has no unit: write for example '{text}s' or '{text}ms'")),
            "µs" => 1_000,
            "min" => 60_000_000_000,
            _ => match SPAN_UNITS.iter().find(|(name, _)| *name == unit) {
                Some((_, unit_ns)) => *unit_ns,
                None => return Err(format!("'{text}' has an unknown unit: there are ns, us, ms, s, m, h")),
            },
        };
        let ns = number.times(unit_ns).ok_or_else(|| format!("'{text}' is not a whole number of nanoseconds"))?;
        let seconds =
            u64::try_from(ns / 1_000_000_000).map_err(|_| format!("'{text}' is too long to be reckoned with"))?;
        Ok(Self(Duration::new(seconds, (ns % 1_000_000_000) as u32)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ns = self.0.as_nanos();
        match SPAN_UNITS.iter().find(|(_, unit_ns)| ns >= *unit_ns && ns.is_multiple_of(*unit_ns)) {
            Some((unit, unit_ns)) => write!(f, "{}{unit}", ns / unit_ns),
            None => f.write_str("0s"),
        }
    }
}

/// The largest [`Size`] that can be written: 1 PB.
const SIZE_MAX: u128 = 1_000_000_000_000_000;

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = split(text)?;
        let unit_bytes = match unit {
            "" | "B" => 1,
            "kB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(format!("'{text}' has an unknown unit: there are B, kB, MB, GB, KiB, MiB, GiB")),
        };
        let bytes = number.times(unit_bytes).filter(|bytes| *bytes <= SIZE_MAX);
        let bytes = bytes.and_then(|bytes| u64::try_from(bytes).ok());
        bytes.map(Self).ok_or_else(|| format!("'{text}' is not a whole number of bytes up to 1 PB"))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("0"),
            n if n % (1 << 30) == 0 => write!(f, "{}GiB", n >> 30),
            n if n % (1 << 20) == 0 => write!(f, "{}MiB", n >> 20),
            n if n % (1 << 10) == 0 => write!(f, "{}KiB", n >> 10),
            n => write!(f, "{n}"),
        }
    }
}

/// The largest count that can be written.
const COUNT_MAX: u128 = 1_000_000_000_000;

impl FromStr for Amount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is neither a whole number nor a percentage from 0% to 100%");
        let (number, unit) = split(text)?;
        match unit {
            "%" => {
                let percent: f64 = text.trim().trim_end_matches('%').trim().parse().map_err(|_| wrong())?;
                (0.0..=100.0).contains(&percent).then_some(Self::Percent(percent)).ok_or_else(wrong)
            }
            "" => {
                let count = number.times(1).filter(|count| *count <= COUNT_MAX);
                count.and_then(|count| u64::try_from(count).ok()).map(Self::Count).ok_or_else(wrong)
            }
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl Amount {
    /// How many that is of `total`, rounded to the nearest.
    pub fn of(self, total: u64) -> u64 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => (total as f64 * percent / 100.0).round() as u64,
        }
    }
}

/// What a file may hold where a unit is expected: a bare number or a string.
#[derive(Deserialize)]
#[serde(untagged, expecting = "must be a number, or a string with its unit such as 10s, 4KiB or 5%")]
enum Written {
    Number(serde_json::Number),
    Text(String),
}

macro_rules! as_text {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = match Written::deserialize(deserializer)? {
                    Written::Number(number) => number.to_string(),
                    Written::Text(text) => text,
                };
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

as_text!(Span);
as_text!(Size);
as_text!(Amount);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_span_that_is_shown_is_read_back(seconds: u64, ns in 0_u32..1_000_000_000) {
            let span = Span(Duration::new(seconds, ns));
            prop_assert_eq!(span.to_string().parse(), Ok(span));
        }

        #[test]
        fn a_size_that_is_shown_is_read_back(bytes in 0_u64..=1_000_000_000_000_000) {
            prop_assert_eq!(Size(bytes).to_string().parse(), Ok(Size(bytes)));
        }

        #[test]
        fn an_amount_that_is_shown_is_read_back(count in 0_u64..=1_000_000_000_000, percent in 0.0..=100.0) {
            for amount in [Amount::Count(count), Amount::Percent(percent)] {
                prop_assert_eq!(amount.to_string().parse(), Ok(amount));
            }
        }

        #[test]
        fn units_survive_json_and_toml(ns: u64, bytes in 0_u64..1_000_000, percent in 0.0..=100.0) {
            #[derive(Debug, PartialEq, Serialize, Deserialize)]
            struct All { span: Span, size: Size, amount: Amount }
            let all = All { span: Span(Duration::from_nanos(ns)), size: Size(bytes), amount: Amount::Percent(percent) };
            prop_assert_eq!(&serde_json::from_str::<All>(&serde_json::to_string(&all).unwrap()).unwrap(), &all);
            prop_assert_eq!(&toml::from_str::<All>(&toml::to_string(&all).unwrap()).unwrap(), &all);
        }

        #[test]
        fn no_text_makes_them_panic(text in "[0-9.eE%+-]{0,45}[a-zA-Zµ% ]{0,4}") {
            let _ = (text.parse::<Span>(), text.parse::<Size>(), text.parse::<Amount>());
        }
    }

    #[test]
    fn people_s_ways_of_writing_are_understood() {
        let spans =
            [("1.5s", 1_500_000_000), ("250 ms", 250_000_000), ("2µs", 2_000), ("0", 0), ("2min", 120_000_000_000)];
        for (text, ns) in spans {
            assert_eq!(text.parse(), Ok(Span(Duration::from_nanos(ns))), "{text}");
        }
        for (text, bytes) in [("4KiB", 4096), ("4kB", 4000), ("1.5MiB", 3 << 19), ("7", 7), ("0.5kB", 500)] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for (text, amount) in [("5%", Amount::Percent(5.0)), ("0.1 %", Amount::Percent(0.1)), ("50", Amount::Count(50))]
        {
            assert_eq!(text.parse(), Ok(amount), "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused_with_the_text_itself() {
        let huge = "9".repeat(60);
        let refused = ["", "-1s", "-1", "nan", "NaN", "inf", "1e3", "1e3s", "1.2.3s", ".", "s", "1parsec", "+1", &huge];
        for text in refused {
            let errors = [text.parse::<Span>().err(), text.parse::<Size>().err(), text.parse::<Amount>().err()];
            for error in errors {
                assert!(error.as_ref().is_some_and(|e| e.contains(text)), "{text}: {error:?}");
            }
        }
        assert!("10".parse::<Span>().unwrap_err().contains("'10s'"));
        assert!("1.5".parse::<Size>().is_err() && "1.5".parse::<Amount>().is_err() && "0.1ns".parse::<Span>().is_err());
        assert!("101%".parse::<Amount>().is_err() && "-5%".parse::<Amount>().unwrap_err().contains("negative"));
        assert!("99999999999999999999h".parse::<Span>().unwrap_err().contains("too long"));
    }

    #[test]
    fn a_share_is_rounded_to_whole_connections() {
        assert_eq!((Amount::Percent(5.0).of(1010), Amount::Percent(0.0).of(7), Amount::Count(3).of(0)), (51, 0, 3));
    }
}
