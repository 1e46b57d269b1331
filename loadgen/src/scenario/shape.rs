//! What keys a type reads, asked of the type itself: a deserializer that has no data, only notes what it is asked for.
//!
//! For tests: what is written about a scenario (the commented file, the flags) is held against the structs.

use std::cell::RefCell;

use serde::de::value::Error;
use serde::de::{DeserializeOwned, DeserializeSeed, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor};
use serde::{Deserializer, forward_to_deserialize_any};

/// The paths of all keys of `T`, tables included; keys within lists as those of the list.
pub fn keys_of<T: DeserializeOwned>() -> Vec<String> {
    let seen = RefCell::new(Vec::new());
    T::deserialize(Shape { seen: &seen, path: String::new() }).expect("a shape gives every type what it asks for");
    seen.into_inner()
}

/// Whether a document has the key; a list has the keys of all its members.
pub fn has_path(value: &toml::Value, path: &str) -> bool {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    match value {
        toml::Value::Array(items) => items.iter().any(|item| has_path(item, path)),
        _ => value.get(first).is_some_and(|inner| rest.is_none_or(|rest| has_path(inner, rest))),
    }
}

#[derive(Clone)]
struct Shape<'a> {
    seen: &'a RefCell<Vec<String>>,
    path: String,
}

impl<'de> Deserializer<'de> for Shape<'_> {
    type Error = Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_map(Fields { shape: self, left: fields, current: "" })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        // Variants that hold something are keys; those of plain enums are values, and are known by their first.
        visitor.visit_enum(Variants { shape: self, variants })
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(One(Some(self)))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(serde::de::value::MapDeserializer::new(std::iter::empty::<((), ())>()))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_bool(false)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_string("0.0.0.0".into())
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_string("0.0.0.0".into())
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_u64(0)
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct newtype_struct tuple
        tuple_struct identifier ignored_any
    }
}

struct Fields<'a> {
    shape: Shape<'a>,
    left: &'static [&'static str],
    current: &'static str,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some((first, left)) = self.left.split_first() else {
            return Ok(None);
        };
        (self.current, self.left) = (first, left);
        seed.deserialize(serde::de::value::StrDeserializer::new(first)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(self.shape.inner(self.current))
    }
}

struct Variants<'a> {
    shape: Shape<'a>,
    variants: &'static [&'static str],
}

impl<'a, 'de> EnumAccess<'de> for Variants<'a> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        let first = self.variants.first().copied().unwrap_or_default();
        Ok((seed.deserialize(serde::de::value::StrDeserializer::new(first))?, self))
    }
}

impl<'de> VariantAccess<'de> for Variants<'_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        let inner: Vec<Shape<'_>> = self.variants.iter().map(|name| self.shape.inner(name)).collect();
        seed.deserialize(inner.into_iter().next().unwrap_or(self.shape))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(Fields { shape: self.shape, left: fields, current: "" })
    }
}

struct One<'a>(Option<Shape<'a>>);

impl<'de> SeqAccess<'de> for One<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.0.take().map(|shape| seed.deserialize(shape)).transpose()
    }
}

impl Shape<'_> {
    /// The shape of what lies under the key, which is noted.
    fn inner(&self, key: &str) -> Self {
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        self.seen.borrow_mut().push(path.clone());
        Self { seen: self.seen, path }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[test]
    fn keys_of_tables_lists_options_and_variants_are_seen() {
        #[derive(Deserialize)]
        #[expect(dead_code, reason = "only its shape is asked for")]
        struct Outer {
            plain: f64,
            inner: Option<Inner>,
            list: Vec<Choice>,
        }
        #[derive(Deserialize)]
        #[expect(dead_code, reason = "only its shape is asked for")]
        struct Inner {
            path: std::path::PathBuf,
            address: std::net::IpAddr,
            span: crate::units::Span,
        }
        #[derive(Deserialize)]
        #[expect(dead_code, reason = "only its shape is asked for")]
        enum Choice {
            This(String),
            That(String),
        }
        let expected =
            ["plain", "inner", "inner.path", "inner.address", "inner.span", "list", "list.This", "list.That"];
        assert_eq!(keys_of::<Outer>(), expected);
        let document: toml::Value = toml::from_str("list = [{ This = 'a' }, { That = 'b' }]").unwrap();
        assert!(
            has_path(&document, "list.That") && !has_path(&document, "list.Other") && !has_path(&document, "plain")
        );
    }
}
