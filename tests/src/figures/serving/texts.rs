//! Texts of known lengths: each word of the list is one token of BERT's vocabulary.

use serde_json::json;

use crate::random::Random;

const WORDS: &str = "\
    the a and of to in is on for with as by from at it his her their our this that these those \
    one two three four five people time year day week month water light house street city river \
    mountain field garden kitchen table window door paper letter book story music school teacher \
    student doctor market money company order price report number question answer morning \
    evening summer winter spring autumn family mother father sister brother friend neighbour dog \
    cat horse bird train ship road bridge small large old new young early late quick slow warm \
    cold bright dark quiet loud open closed empty full heavy simple strange careful walked found \
    carried opened waited worked wrote read sold bought built moved turned followed asked \
    answered remembered forgot began ended between behind under above across without before \
    after while until because although again often never always almost together";

/// The words of the longest text. With the two tokens that frame every text it has 64.
const WORDS_MAX: usize = 62;

/// So many texts of 3 to 64 tokens, all lengths equally often and in a mixed order; the same ones
/// every time.
pub(super) fn texts(count: usize) -> Vec<String> {
    let words: Vec<&str> = WORDS.split_whitespace().collect();
    let mut random = Random(64);
    // Steps of 23, which has no divisor in common with 62, meet every length.
    let lengths = (0..count).map(|index| 1 + index * 23 % WORDS_MAX);
    let mut word = || words[random.below(words.len())];
    lengths.map(|length| (0..length).map(|_| word()).collect::<Vec<_>>().join(" ")).collect()
}

/// The body of a request for one text.
pub(super) fn body(text: &str) -> Vec<u8> {
    json!({ "input": text }).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_comes_as_often() {
        let mut counts = [0; WORDS_MAX + 1];
        for text in texts(4 * WORDS_MAX) {
            counts[text.split(' ').count()] += 1;
        }
        assert_eq!(counts[0], 0);
        assert!(counts[1..].iter().all(|&count| count == 4), "{counts:?}");
    }
}
