//! Names of X.509 as text (RFC 4514).

use x509_parser::asn1_rs::ToDer as _;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// The common name of a subject, the most specific one if there are several: certificates have the general first.
#[must_use]
pub fn common_name(name: &X509Name<'_>) -> Option<String> {
    name.iter_common_name().last()?.as_str().ok().map(str::to_owned)
}

/// A name as text, the most specific part first.
#[must_use]
pub fn rfc4514(name: &X509Name<'_>) -> String {
    let mut parts: Vec<String> = name
        .iter_rdn()
        .map(|part| part.iter().map(attribute).collect::<Vec<_>>().join("+"))
        .filter(|part| !part.is_empty())
        .collect();
    parts.reverse();
    parts.join(",")
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let number = attribute.attr_type().to_id_string();
    // RFC 4514, section 3, and two that are common.
    let short = match number.as_str() {
        "2.5.4.3" => "CN",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "2.5.4.6" => "C",
        "2.5.4.9" => "STREET",
        "0.9.2342.19200300.100.1.25" => "DC",
        "0.9.2342.19200300.100.1.1" => "UID",
        "2.5.4.5" => "serialNumber",
        "1.2.840.113549.1.9.1" => "emailAddress",
        _ => "",
    };
    match (short, attribute.as_str()) {
        ("", _) | (_, Err(_)) => {
            let name = if short.is_empty() { number.as_str() } else { short };
            format!("{name}={}", encoded(attribute))
        }
        (short, Ok(text)) => format!("{short}={}", escaped(text)),
    }
}

/// A value that is no text: `#` and its DER (section 2.4).
fn encoded(attribute: &AttributeTypeAndValue<'_>) -> String {
    let der = attribute.attr_value().to_der_vec().unwrap_or_default();
    std::iter::once("#".to_owned()).chain(der.iter().map(|byte| format!("{byte:02x}"))).collect()
}

/// A text as section 2.4 has it, so that no value can look like another part of the name.
fn escaped(text: &str) -> String {
    let last = text.chars().count().saturating_sub(1);
    let mut out = String::with_capacity(text.len());
    for (at, character) in text.chars().enumerate() {
        let is_special = match character {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => true,
            ' ' => at == 0 || at == last,
            '#' => at == 0,
            _ => false,
        };
        match character {
            // Control characters, too, as the text goes into logs.
            control if control.is_control() => {
                let mut bytes = [0; 4];
                control.encode_utf8(&mut bytes).bytes().for_each(|byte| out.push_str(&format!("\\{byte:02x}")));
            }
            character => {
                if is_special {
                    out.push('\\');
                }
                out.push(character);
            }
        }
    }
    out
}
