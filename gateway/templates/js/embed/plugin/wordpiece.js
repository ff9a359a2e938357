// Texts to tokens as BERT's models without letter case want them.
//
// The engine that runs plugins has no tables of Unicode, so the accents that are taken off, and the
// signs that stand for themselves, are listed here: those of Latin, Greek and Cyrillic scripts, and
// the usual punctuation of others.

const ACCENTED = {
  a: "àáâãäåāăąǎǟǡǻȁȃȧḁạảấầẩẫậắằẳẵặ",
  b: "ḃḅḇ",
  c: "çćĉċčḉ",
  d: "ďḋḍḏḑḓ",
  e: "èéêëēĕėęěȅȇȩḕḗḙḛḝẹẻẽếềểễệ",
  f: "ḟ",
  g: "ĝğġģǧǵḡ",
  h: "ĥȟḣḥḧḩḫẖ",
  i: "ìíîïĩīĭįǐȉȋḭḯỉị",
  j: "ĵǰ",
  k: "ķǩḱḳḵ",
  l: "ĺļľḷḹḻḽ",
  m: "ḿṁṃ",
  n: "ñńņňǹṅṇṉṋ",
  o: "òóôõöōŏőơǒǫǭȍȏȫȭȯȱṍṏṑṓọỏốồổỗộớờởỡợ",
  p: "ṕṗ",
  r: "ŕŗřȑȓṙṛṝṟ",
  s: "śŝşšșṡṣṥṧṩ",
  t: "ţťțṫṭṯṱẗ",
  u: "ùúûüũūŭůűųưǔǖǘǚǜȕȗṳṵṷṹṻụủứừửữự",
  v: "ṽṿ",
  w: "ŵẁẃẅẇẉẘ",
  x: "ẋẍ",
  y: "ýÿŷȳẏẙỳỵỷỹ",
  z: "źżžẑẓẕ",
  α: "ά",
  ε: "έ",
  η: "ή",
  ι: "ίΐϊ",
  ο: "ό",
  υ: "ύϋΰ",
  ω: "ώ",
  г: "ѓ",
  е: "ѐё",
  и: "ѝй",
  і: "ї",
  к: "ќ",
  у: "ў",
};
const BARE = new Map(
  Object.entries(ACCENTED).flatMap(([letter, all]) => [...all].map((one) => [one, letter])),
);
/** Accents that stand behind their letter. */
const ACCENTS = /[\u0300-\u036f]/g;
/** What is not seen, but for white space. */
const CONTROLS = /[\0-\x08\x0e-\x1f\x7f-\x9f\xad\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufffd]/g;
/** Punctuation, and the signs of Chinese and Japanese: each is a word. */
const ALONE =
  /[!-/:-@[-`{-~¡§«¶·»¿\u2010-\u2027\u2030-\u205e\u2e00-\u2e5d\u3001-\u3003\u3008-\u3011\u3014-\u301f\u30fb\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u{20000}-\u{2fa1f}]/gu;
/** A longer word is not looked up. */
const CHARACTERS_MAX = 100;

export class Wordpiece {
  #ids;

  /** The vocabulary of a `tokenizer.json`: words, and their ends with `##` before them. */
  constructor(tokenizer) {
    this.#ids = new Map(Object.entries(tokenizer.model.vocab));
  }

  /** The tokens of a text with those that begin and end it, at most `max`. */
  encode(text, max) {
    const ids = words(text).flatMap((word) => this.#pieces(word));
    return [this.#id("[CLS]"), ...ids.slice(0, max - 2), this.#id("[SEP]")];
  }

  #id(piece) {
    return this.#ids.get(piece);
  }

  /** The longest piece that begins the word, then that of the rest, until nothing is left. */
  #pieces(word) {
    const characters = [...word];
    if (characters.length > CHARACTERS_MAX) return [this.#id("[UNK]")];
    const pieces = [];
    for (let start = 0, stop; start < characters.length; start = stop) {
      let id;
      for (stop = characters.length; stop > start; stop -= 1) {
        id = this.#id((start > 0 ? "##" : "") + characters.slice(start, stop).join(""));
        if (id !== undefined) break;
      }
      if (id === undefined) return [this.#id("[UNK]")];
      pieces.push(id);
    }
    return pieces;
  }
}

/** The words of a text, without accents and letter case. */
function words(text) {
  const lower = text.replace(CONTROLS, "").toLowerCase();
  const bare = [...lower].map((letter) => BARE.get(letter) ?? letter).join("");
  const spaced = bare.replace(ACCENTS, "").replace(ALONE, " $& ");
  return spaced.split(/\s+/).filter((word) => word !== "");
}
