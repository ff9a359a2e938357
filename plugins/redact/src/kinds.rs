//! The kinds of personal data: how each looks, and what else must hold of it.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use gw_sdk::{Error, config};
use regex_lite::Regex;

/// A name, how it looks, how many digits it has at least, and what must hold of what looks so.
type Kind = (&'static str, &'static str, usize, fn(&str) -> bool);

/// In this order, so that what is an IBAN or a card is no phone.
const KINDS: [Kind; 5] = [
    ("email", EMAIL, 0, |_| true),
    ("iban", r"[A-Z]{2}\d\d(?: ?[0-9A-Z]){11,30}|[a-z]{2}\d\d[0-9a-z]{11,30}", 2, iban),
    ("card", r"[2-6](?:[ -]?\d){12,18}", 13, card),
    ("ip", r"\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:.]{1,44}", 1, ip),
    ("phone", PHONE, 8, |text| (8..=15).contains(&digits(text).count())),
];
/// Letters are Latin, Greek and Cyrillic ones: scripts without spaces have no borders.
const EMAIL: &str = r"(?x) [\w.%+'\u{C0}-\u{52F}-]+ @ (?:[\w\u{C0}-\u{52F}-]+\.)+
    [A-Za-z\u{C0}-\u{52F}]{2,24}";
/// International; North American; with a leading 0, in groups or in pairs.
const PHONE: &str = r"(?x) (?:\+|00)[1-9](?:[\ ./()-]{0,2}\d){6,14}
    | (?:1[\ .-])?(?:\([2-9]\d\d\)\ ?|[2-9]\d\d[\ .-])[2-9]\d\d[\ .-]\d{4}
    | \(?0\d{1,4}\)?[\ /-](?:\d{3,4}[\ -]\d{3,5}|\d{5,9}) | 0\d(?:[\ .-]\d\d){4}";

/// Read once, when the plugin is built.
pub static REGEXES: LazyLock<[Regex; 5]> =
    LazyLock::new(|| KINDS.map(|kind| Regex::new(kind.1).expect("tests use it")));

/// Those that are looked for.
pub struct Kinds(Vec<(&'static Kind, &'static Regex)>);

impl Kinds {
    /// Those that `kinds` in the plugin's `config` names, or all.
    pub fn granted() -> Result<Self, Error> {
        let all = KINDS.map(|kind| kind.0).join(", ");
        let names = config::parse("kinds", all.clone())?;
        if let Some(name) = names.split(',').find(|name| !KINDS.iter().any(|k| k.0 == name.trim()))
        {
            let message = format!("`kinds` in gw.toml's config names {name:?}: take some of {all}");
            return Err(Error::new(500, "wrong_config", message));
        }
        let all = KINDS.iter().zip(&*REGEXES);
        Ok(Self(all.filter(|(kind, _)| names.contains(kind.0)).collect()))
    }

    /// The text with `[email]` and so on in place of what was found, and how much that was.
    pub fn redact(&self, text: &str) -> (String, usize) {
        let (mut text, mut hidden) = (text.to_owned(), 0);
        let (digits, at) = (digits(&text).count(), text.contains('@'));
        for (kind, regex) in &self.0 {
            if digits >= kind.2 && (at || kind.0 != "email") {
                (text, hidden) = replace(&text, hidden, kind, regex);
            }
        }
        (text, hidden)
    }
}

fn replace(text: &str, mut hidden: usize, kind: &Kind, regex: &Regex) -> (String, usize) {
    let (mut out, mut kept, mut at) = (String::with_capacity(text.len()), 0, 0);
    while let Some(found) = regex.find_at(text, at) {
        let start = found.start();
        let before = text[..start].trim_end_matches(['.', '-', '/']);
        let in_number = kind.0 != "email" && before.ends_with(|c: char| c.is_ascii_digit());
        // A pattern takes all that it can: the longest part that holds is meant.
        let ends = (start + 1..=found.end()).rev().filter(|&end| text.is_char_boundary(end));
        let mut parts = ends.filter(|&end| is_end(&text[..end], &text[end..]) && !in_number);
        if let Some(end) = parts.find(|&end| kind.3(&text[start..end])) {
            out += &format!("{}[{}]", &text[kept..start], kind.0);
            (kept, at, hidden) = (end, end, hidden + 1);
        } else {
            // Another may begin behind the first word of this one.
            let word = found.as_str().find(|c: char| !c.is_ascii_alphanumeric());
            at = word.map_or(found.end(), |word| start + word.max(1));
        }
    }
    (out + &text[kept..], hidden)
}

/// Whether neither a word nor a number goes on here, and nothing but a part of it is taken along.
fn is_end(before: &str, after: &str) -> bool {
    let goes_on = |kind: fn(char) -> bool| before.ends_with(kind) && after.starts_with(kind);
    let cut = goes_on(|c| c.is_ascii_digit()) || goes_on(|c| c.is_ascii_alphabetic());
    !cut && !before.ends_with([' ', '-'])
}

fn digits(text: &str) -> impl DoubleEndedIterator<Item = u32> {
    text.chars().filter_map(|c| c.to_digit(10))
}

/// ISO 13616: with the first four behind the others and letters as 10 to 35, it is 1 modulo 97.
fn iban(text: &str) -> bool {
    let compact = text.replace(' ', "");
    let values = compact.chars().cycle().skip(4).take(compact.len()).filter_map(|c| c.to_digit(36));
    let rest = values.fold(0, |rest, x| (rest * if x < 10 { 10 } else { 100 } + x) % 97);
    (15..=34).contains(&compact.len()) && rest == 1
}

/// ISO 7812: a length that the issuer uses, and Luhn's sum.
fn card(text: &str) -> bool {
    let luhn = |(i, x): (usize, u32)| if i % 2 == 1 { 2 * x / 10 + 2 * x % 10 } else { x };
    let length = digits(text).count();
    matches!(
        (&text[..1], length),
        ("2" | "5", 16) | ("3", 14..17) | ("4", 13 | 16 | 19) | ("6", 16..)
    ) && digits(text).rev().enumerate().map(luhn).sum::<u32>() % 10 == 0
}

/// An IPv6 address without a digit is more likely a path in a program.
fn ip(text: &str) -> bool {
    let v6 = text.parse::<Ipv6Addr>().is_ok() && digits(text).next().is_some();
    v6 || text.parse::<Ipv4Addr>().is_ok()
}
