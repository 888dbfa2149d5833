//! How one value of the file is read, checked and written back.
//!
//! Owns the kinds of values and their bounds; must never know which keys there are.

use std::fmt::Display;
use std::ops::Range;
use std::time::Duration;

use serde_json::Value;
use toml::de::DeValue;

/// What is wrong with a value, before the key and the place in the file are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    /// Bytes of the file, where they are narrower than the whole value.
    pub span: Option<Range<usize>>,
    /// Key below the one that was read, if the value is a table.
    pub below: Option<String>,
    pub message: String,
    pub hint: Option<String>,
}

impl Problem {
    pub fn new(message: impl Into<String>) -> Self {
        Self { span: None, below: None, message: message.into(), hint: None }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub fn at(mut self, span: Range<usize>) -> Self {
        self.span = self.span.or(Some(span));
        self
    }

    pub fn below(mut self, key: impl Into<String>) -> Self {
        self.below = Some(key.into());
        self
    }
}

/// Bounds of a value, as text in the value's own notation. Empty text: no such bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// What zero means, where zero is accepted although it is below the minimum.
    pub zero: &'static str,
    /// The least value.
    pub min: &'static str,
    /// The greatest value.
    pub max: &'static str,
}

/// No bounds beyond those of the kind.
pub(super) const ANY: Rule = Rule { zero: "", min: "", max: "" };

pub(super) const fn at_least(min: &'static str) -> Rule {
    Rule { zero: "", min, max: "" }
}

pub(super) const fn zero_or(zero: &'static str, min: &'static str) -> Rule {
    Rule { zero, min, max: "" }
}

pub(super) const fn between(min: &'static str, max: &'static str) -> Rule {
    Rule { zero: "", min, max }
}

/// A kind of value.
pub(super) trait Setting: Sized {
    /// What people are told to write.
    const KIND: &'static str;

    /// The same in a word, for tables.
    const UNIT: &'static str;

    fn read(value: &DeValue<'_>, rule: &Rule) -> Result<Self, Problem>;

    /// The value in TOML.
    fn toml(&self) -> String;

    /// The value as `daemon.config` shows it.
    fn json(&self) -> Value;
}

pub(super) fn wrong_type<T: Setting>(value: &DeValue<'_>) -> Problem {
    Problem::new(format!("expected {}, found {}", T::KIND, type_of(value)))
}

pub(super) fn type_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "a truth value",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

pub(super) fn text<'a, T: Setting>(value: &'a DeValue<'_>) -> Result<&'a str, Problem> {
    value.as_str().ok_or_else(|| wrong_type::<T>(value))
}

/// A string in TOML notation.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// Compares with the bounds, which are texts of the same kind.
fn check<N: PartialOrd + Copy>(
    value: N,
    zero: N,
    rule: &Rule,
    shown: &impl Display,
    parse: impl Fn(&str) -> Option<N>,
) -> Result<(), Problem> {
    if value == zero && !rule.zero.is_empty() {
        return Ok(());
    }
    if parse(rule.min).is_some_and(|min| value < min) {
        let problem = Problem::new(format!("{shown} is below the minimum of {}", rule.min));
        return Err(if rule.zero.is_empty() {
            problem
        } else {
            problem.hint(format!("zero is accepted too: {}", rule.zero))
        });
    }
    if parse(rule.max).is_some_and(|max| value > max) {
        return Err(Problem::new(format!("{shown} is above the maximum of {}", rule.max)));
    }
    Ok(())
}

/// Longest duration: ten years. Deadlines are added to instants, and must not leave their range.
const DURATION_MAX: Duration = Duration::from_secs(3650 * 86_400);

pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text.trim()).map_err(|error| error.to_string())?;
    if duration > DURATION_MAX { Err("is longer than ten years".to_owned()) } else { Ok(duration) }
}

/// The shortest exact notation with one unit.
pub(super) fn duration_text(duration: Duration) -> String {
    const UNITS: [(u128, &str); 7] = [
        (86_400_000_000_000, "d"),
        (3_600_000_000_000, "h"),
        (60_000_000_000, "m"),
        (1_000_000_000, "s"),
        (1_000_000, "ms"),
        (1_000, "us"),
        (1, "ns"),
    ];
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    UNITS
        .iter()
        .find(|(unit, _)| nanos.is_multiple_of(*unit))
        .map_or_else(|| format!("{nanos}ns"), |(unit, name)| format!("{}{name}", nanos / unit))
}

impl Setting for Duration {
    const KIND: &'static str = "a duration with its unit, such as \"30s\", \"5m\" or \"1h 30m\"";
    const UNIT: &'static str = "duration";

    fn read(value: &DeValue<'_>, rule: &Rule) -> Result<Self, Problem> {
        if let Some(number) = value.as_integer() {
            return Err(wrong_type::<Self>(value).hint(format!("did you mean \"{number}s\"?")));
        }
        let given = text::<Self>(value)?;
        let duration = parse_duration(given).map_err(|why| {
            Problem::new(format!("{given:?} is no duration: {why}"))
                .hint("units are ms, s, m, h and d, such as \"30s\"")
        })?;
        check(duration, Self::ZERO, rule, &format!("{given:?}"), |bound| parse_duration(bound).ok())?;
        Ok(duration)
    }

    fn toml(&self) -> String {
        quoted(&duration_text(*self))
    }

    fn json(&self) -> Value {
        Value::from(duration_text(*self))
    }
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl Display for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const UNITS: [(u32, &str); 4] = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
        let unit = UNITS.iter().find(|(shift, _)| self.0 != 0 && self.0.trailing_zeros() >= *shift);
        match unit {
            Some((shift, name)) => write!(f, "{}{name}", self.0 >> shift),
            None => write!(f, "{}B", self.0),
        }
    }
}

fn parse_bytes(text: &str) -> Result<Bytes, String> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let number: u64 = digits.parse().map_err(|_| "it must begin with a whole number".to_owned())?;
    let factor: u64 = match unit.trim() {
        "" if number == 0 => 1,
        "" => return Err("the unit is missing".to_owned()),
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        other => return Err(format!("{other:?} is no unit")),
    };
    number.checked_mul(factor).map(Bytes).ok_or_else(|| "it is too large".to_owned())
}

impl Setting for Bytes {
    const KIND: &'static str = "a size with its unit, such as \"50MiB\"";
    const UNIT: &'static str = "size";

    fn read(value: &DeValue<'_>, rule: &Rule) -> Result<Self, Problem> {
        let given = text::<Self>(value)?;
        let bytes = parse_bytes(given).map_err(|why| {
            Problem::new(format!("{given:?} is no size: {why}"))
                .hint("units are B, KiB, MiB, GiB and TiB, such as \"50MiB\"")
        })?;
        check(bytes, Self(0), rule, &format!("{given:?}"), |bound| parse_bytes(bound).ok())?;
        Ok(bytes)
    }

    fn toml(&self) -> String {
        quoted(&self.to_string())
    }

    fn json(&self) -> Value {
        Value::from(self.to_string())
    }
}

impl Setting for u32 {
    const KIND: &'static str = "a whole number";
    const UNIT: &'static str = "count";

    fn read(value: &DeValue<'_>, rule: &Rule) -> Result<Self, Problem> {
        let integer = value.as_integer().ok_or_else(|| wrong_type::<Self>(value))?;
        let number = i128::from_str_radix(integer.as_str(), integer.radix())
            .map_err(|_| Problem::new(format!("{integer} is out of range")))?;
        if number < 0 {
            return Err(Problem::new(format!("{number} is negative")));
        }
        check(number, 0, rule, &number, |bound| bound.parse::<i128>().ok())?;
        Self::try_from(number)
            .map_err(|_| Problem::new(format!("{number} is above the maximum of {}", Self::MAX)))
    }

    fn toml(&self) -> String {
        self.to_string()
    }

    fn json(&self) -> Value {
        Value::from(*self)
    }
}

impl Setting for f64 {
    const KIND: &'static str = "a number";
    const UNIT: &'static str = "number";

    fn read(value: &DeValue<'_>, rule: &Rule) -> Result<Self, Problem> {
        let number = if let Some(float) = value.as_float() {
            float.as_str().parse::<Self>().ok()
        } else if let Some(integer) = value.as_integer() {
            i64::from_str_radix(integer.as_str(), integer.radix()).ok().map(|n| n as Self)
        } else {
            return Err(wrong_type::<Self>(value));
        };
        let number = number
            .filter(|number| number.is_finite())
            .ok_or_else(|| Problem::new("expected a finite number"))?;
        if number < 0.0 {
            return Err(Problem::new(format!("{number} is negative")));
        }
        check(number, 0.0, rule, &number, |bound| bound.parse().ok())?;
        Ok(number)
    }

    fn toml(&self) -> String {
        format!("{self:?}")
    }

    fn json(&self) -> Value {
        Value::from(*self)
    }
}

impl Setting for Vec<String> {
    const KIND: &'static str = "a list of texts";
    const UNIT: &'static str = "list";

    fn read(value: &DeValue<'_>, _: &Rule) -> Result<Self, Problem> {
        let list = value.as_array().ok_or_else(|| wrong_type::<Self>(value))?;
        list.iter()
            .map(|item| match item.get_ref().as_str() {
                None => Err(Problem::new(format!(
                    "expected a list of texts, found {} in it",
                    type_of(item.get_ref())
                ))
                .at(item.span())),
                Some("") => Err(Problem::new("has an empty text in it").at(item.span())),
                Some(text) => Ok(text.to_owned()),
            })
            .collect()
    }

    fn toml(&self) -> String {
        format!("[{}]", self.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", "))
    }

    fn json(&self) -> Value {
        Value::from(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_written_with_one_exact_unit() {
        let cases = [("0s", "0s"), ("90s", "90s"), ("3m", "3m"), ("1h 30m", "90m"), ("20ms", "20ms")];
        for (given, written) in cases {
            assert_eq!(duration_text(parse_duration(given).unwrap()), written);
        }
    }

    proptest! {
        #[test]
        fn durations_read_back(millis in 0u64..10_000_000_000) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&duration_text(duration)).unwrap(), duration);
        }

        #[test]
        fn sizes_read_back(bytes: u64) {
            prop_assert_eq!(parse_bytes(&Bytes(bytes).to_string()).unwrap(), Bytes(bytes));
        }
    }
}
