//! `TfIdfVectorizer` (ONNX 9) over numbers: how often each n-gram of a pool occurs.

use gw_shaders::expr::Binary;
use gw_shaders::kernel::Scalar;
use gw_shaders::reduce;
use gw_tensor::{DType, Shape, Tensor};

use super::gather::take;
use super::{Call, Table, elementwise, sizes};
use crate::error::OpError;
use crate::graph::Attr;
use crate::net::Operand;
use crate::net::builder::Builder;
use crate::net::formula::Formula;

pub(super) const OPS: Table = &[("TfIdfVectorizer", tf_idf)];

/// N-grams of more elements, or with more elements between two of them, are a mistake.
const REACH_MAX: usize = 64;

/// The n-grams of one length.
struct Grams {
    /// `[count, length]`, one after another.
    pool: Vec<i64>,
    length: usize,
    count: usize,
}

fn tf_idf(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let x = call.input(0)?;
    let dims = x.shape();
    if x.scalar() != Scalar::I32 || dims.len() > 2 {
        let given = Shape::from(dims);
        return Err(OpError::mismatch("input 0", "integers [count] or [batch, count]", given));
    }
    let whole = |call: &Call<'_>, name: &str| -> Result<usize, OpError> {
        let value = usize::try_from(call.int(name, 0)).ok().filter(|&value| value <= REACH_MAX);
        value.ok_or_else(|| OpError::mismatch(name, format!("at most {REACH_MAX}"), "more"))
    };
    let [shortest, longest, skips] = [
        whole(call, "min_gram_length")?,
        whole(call, "max_gram_length")?,
        whole(call, "max_skip_count")?,
    ];
    let columns = call.ints("ngram_indexes").unwrap_or_default();
    let columns = sizes(&columns)?;
    let lengths = grams(call, columns.len())?;
    let batch = if dims.len() == 2 { dims[0] } else { 1 };
    let len = x.layout.elements() / batch.max(1);
    let rows = call.builder.reshape(&x, &[batch, len])?;
    let mut parts = Vec::with_capacity(lengths.len() + 1);
    for grams in &lengths {
        let is_wanted = (shortest.max(1)..=longest).contains(&grams.length);
        // What lies between the elements of one is nothing to an n-gram of one.
        let most = if grams.length == 1 { 1 } else { skips + 1 };
        let steps = 1..=if is_wanted { most } else { 0 };
        parts.push(counted(call.builder, &rows, grams, steps)?);
    }
    let zero = call.builder.ints(&[1, 1], &[0])?;
    parts.push(call.builder.expand(&zero, &[batch, 1])?);
    let counts = call.builder.concat(&parts, 1)?;
    let result = placed(call.builder, &counts, &columns)?;
    let result = weighted(call, &result, &columns)?;
    let target = if dims.len() == 2 { result.shape() } else { vec![result.shape()[1]] };
    Ok(vec![call.builder.reshape(&result, &target)?])
}

/// The pool, cut where `ngram_counts` says.
fn grams(call: &Call<'_>, columns: usize) -> Result<Vec<Grams>, OpError> {
    if call.has("pool_strings") {
        return Err(OpError::Unsupported("a pool of strings".to_owned()));
    }
    let pool = call.ints("pool_int64s").unwrap_or_default();
    let starts = sizes(&call.ints("ngram_counts").unwrap_or_default())?;
    let mut lengths = Vec::with_capacity(starts.len());
    for (index, &start) in starts.iter().enumerate() {
        let end = starts.get(index + 1).copied().unwrap_or(pool.len());
        let part = pool.get(start..end).filter(|part| part.len() % (index + 1) == 0);
        let part = part.ok_or_else(|| {
            let expected = format!("ascending starts in a pool of {}", pool.len());
            OpError::mismatch("ngram_counts", expected, format!("{starts:?}"))
        })?;
        let length = index + 1;
        lengths.push(Grams { pool: part.to_vec(), length, count: part.len() / length });
    }
    let count: usize = lengths.iter().map(|grams| grams.count).sum();
    match count == columns {
        true => Ok(lengths),
        false => Err(OpError::mismatch("ngram_indexes", format!("{count} of them"), columns)),
    }
}

/// How often each of `grams` occurs in each row, `[batch, count]`, with its elements each of
/// `steps` apart.
fn counted(
    builder: &mut Builder,
    rows: &Operand,
    grams: &Grams,
    steps: std::ops::RangeInclusive<usize>,
) -> Result<Operand, OpError> {
    let [batch, len] = [rows.shape()[0], rows.shape()[1]];
    let zero = builder.ints(&[1, 1], &[0])?;
    let mut total = builder.expand(&zero, &[batch, grams.count])?;
    if grams.count == 0 {
        return Ok(total);
    }
    for step in steps {
        let places = len.saturating_sub(step * (grams.length - 1));
        if places == 0 {
            continue;
        }
        let mut matches: Option<Operand> = None;
        for place in 0..grams.length {
            let column: Vec<i64> =
                grams.pool.iter().skip(place).step_by(grams.length).copied().collect();
            let column = builder.ints(&[1, 1, grams.count], &column)?;
            let column = Builder::retyped(&column, rows.dtype);
            let window = builder.slice(rows, 1, place * step, 1, places)?;
            let window = builder.reshape(&window, &[batch, places, 1])?;
            let equal = elementwise::apply(builder, Binary::Equal, &window, &column)?;
            matches = Some(match matches {
                Some(others) => elementwise::apply(builder, Binary::And, &others, &equal)?,
                None => equal,
            });
        }
        let Some(matches) = matches else { continue };
        let ones = elementwise::convert(builder, &matches, DType::I64)?;
        let sums = super::reduce::over(builder, reduce::Op::Sum, &ones, &[1], false, DType::I64)?;
        total = elementwise::apply(builder, Binary::Add, &total, &sums)?;
    }
    Ok(total)
}

/// `counts [batch, n-grams + 1]`, whose last column is zero, in the columns of the result.
fn placed(builder: &mut Builder, counts: &Operand, columns: &[usize]) -> Result<Operand, OpError> {
    let dims = counts.shape();
    let width = columns.iter().max().map_or(0, |most| most.saturating_add(1));
    if width > super::gather::FOLD_MAX.max(2 * columns.len()) {
        return Err(OpError::mismatch("ngram_indexes", "few gaps", width));
    }
    let none = i64::try_from(columns.len()).unwrap_or(i64::MAX);
    let mut sources = vec![none; width];
    for (gram, &column) in columns.iter().enumerate() {
        if std::mem::replace(&mut sources[column], i64::try_from(gram).unwrap_or(0)) != none {
            return Err(OpError::Unsupported("one column for two n-grams".to_owned()));
        }
    }
    let sources = builder.ints(&[width], &sources)?;
    let lines = builder.reshape(counts, &[dims[0], dims[1], 1])?;
    let taken = take(builder, &lines, &sources)?;
    builder.reshape(&taken, &[dims[0], width])
}

/// The counts, or whether there are any, times the weight of each n-gram.
fn weighted(call: &mut Call<'_>, counts: &Operand, columns: &[usize]) -> Result<Operand, OpError> {
    let mut formula = Formula::new(&[Scalar::I32]);
    match call.text("mode", "TF").as_str() {
        "TF" | "TFIDF" => {}
        "IDF" => {
            let zero = formula.int(0);
            formula.bin(Binary::Greater, 0, zero);
        }
        other => return Err(OpError::Unsupported(format!("mode `{other}`"))),
    }
    let value = formula.0.output;
    formula.cast(Scalar::F32, value);
    let result = call.builder.pointwise(&formula.0, std::slice::from_ref(counts), DType::F32)?;
    match call.attr("weights") {
        Some(Attr::Floats(weights)) if call.text("mode", "TF") != "TF" => {
            if weights.len() != columns.len() {
                let given = weights.len();
                return Err(OpError::mismatch("weights", format!("{}", columns.len()), given));
            }
            let mut of_columns = vec![0f32; counts.shape()[1]];
            for (&column, &weight) in columns.iter().zip(weights) {
                of_columns[column] = weight;
            }
            let weights = Tensor::from_slice([of_columns.len()], &of_columns)?;
            let weights = call.builder.constant(weights);
            elementwise::apply(call.builder, Binary::Mul, &result, &weights)
        }
        _ => Ok(result),
    }
}
