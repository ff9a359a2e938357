//! Tensors as `NumPy`'s `.npy` files.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use gw_tensor::{DType, Element, Shape, Tensor};
use half::{bf16, f16};
use npyz::{AutoSerialize, NpyFile, Order, TypeChar, WriterBuilder as _};

/// Reads a tensor.
///
/// # Errors
/// Where the file cannot be read, is not a whole `.npy` file, or holds no plain numbers.
pub(crate) fn read(path: &Path) -> anyhow::Result<Tensor> {
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let bytes = file.metadata()?.len();
    decode(BufReader::new(file), bytes).with_context(|| format!("reading {}", path.display()))
}

/// Writes a tensor; `bf16`, which `NumPy` lacks, is widened to `f32`.
///
/// # Errors
/// Where the file cannot be written.
pub(crate) fn write(path: &Path, tensor: &Tensor) -> anyhow::Result<()> {
    let context = || format!("writing {}", path.display());
    let mut file = BufWriter::new(File::create(path).with_context(context)?);
    encode(&mut file, tensor).and_then(|()| Ok(file.flush()?)).with_context(context)
}

fn decode(reader: impl std::io::Read, file_bytes: u64) -> anyhow::Result<Tensor> {
    let npy = NpyFile::new(reader)?;
    let dtype = dtype_of(&npy.dtype())?;
    let dims: Vec<usize> =
        npy.shape().iter().map(|&d| usize::try_from(d)).collect::<Result<_, _>>()?;
    let shape = Shape::new(dims);
    // The header may claim anything: believe it only as far as the file goes.
    let claimed = shape.len_checked()?.checked_mul(dtype.size());
    let fits = claimed.is_some_and(|bytes| bytes as u64 <= file_bytes);
    ensure!(fits, "the file is truncated: its header promises {dtype} of shape {shape}");
    let transposed = npy.order() == Order::Fortran && shape.len() > 1;
    let tensor = match dtype {
        DType::F32 => elements::<f32, _>(npy, &shape),
        DType::F16 => elements::<f16, _>(npy, &shape),
        DType::F64 => elements::<f64, _>(npy, &shape),
        DType::I8 => elements::<i8, _>(npy, &shape),
        DType::I16 => elements::<i16, _>(npy, &shape),
        DType::I32 => elements::<i32, _>(npy, &shape),
        DType::I64 => elements::<i64, _>(npy, &shape),
        DType::U8 => elements::<u8, _>(npy, &shape),
        DType::U16 => elements::<u16, _>(npy, &shape),
        DType::U32 => elements::<u32, _>(npy, &shape),
        DType::U64 => elements::<u64, _>(npy, &shape),
        DType::Bool => {
            let flags: Vec<bool> = npy.into_vec()?;
            let bytes: Vec<u8> = flags.into_iter().map(u8::from).collect();
            Ok(Tensor::new(DType::Bool, shape, bytes)?)
        }
        // The narrowest types among them.
        other => bail!("NumPy has no {other}"),
    }?;
    if transposed { row_major(&tensor) } else { Ok(tensor) }
}

fn elements<T, R>(npy: NpyFile<R>, shape: &Shape) -> anyhow::Result<Tensor>
where
    T: Element + npyz::Deserialize,
    R: std::io::Read,
{
    Ok(Tensor::from_slice::<T>(shape.clone(), &npy.into_vec()?)?)
}

/// The same tensor, where its elements were stored with the first dimension fastest.
fn row_major(stored: &Tensor) -> anyhow::Result<Tensor> {
    let (shape, size) = (stored.shape(), stored.dtype().size());
    let mut bytes = Vec::with_capacity(stored.bytes().len());
    let mut index = vec![0usize; shape.len()];
    for _ in 0..stored.elements() {
        let offset = index.iter().zip(shape.iter()).rev().fold(0, |at, (i, d)| at * d + i);
        bytes.extend_from_slice(&stored.bytes()[offset * size..(offset + 1) * size]);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
    Ok(Tensor::new(stored.dtype(), shape.clone(), bytes)?)
}

fn dtype_of(dtype: &npyz::DType) -> anyhow::Result<DType> {
    let npyz::DType::Plain(plain) = dtype else {
        bail!("it holds {}, not an array of plain numbers", dtype.descr());
    };
    Ok(match (plain.type_char(), plain.num_bytes()) {
        (TypeChar::Float, Some(4)) => DType::F32,
        (TypeChar::Float, Some(2)) => DType::F16,
        (TypeChar::Float, Some(8)) => DType::F64,
        (TypeChar::Int, Some(1)) => DType::I8,
        (TypeChar::Int, Some(2)) => DType::I16,
        (TypeChar::Int, Some(4)) => DType::I32,
        (TypeChar::Int, Some(8)) => DType::I64,
        (TypeChar::Uint, Some(1)) => DType::U8,
        (TypeChar::Uint, Some(2)) => DType::U16,
        (TypeChar::Uint, Some(4)) => DType::U32,
        (TypeChar::Uint, Some(8)) => DType::U64,
        (TypeChar::Bool, _) => DType::Bool,
        _ => bail!("its elements are {}, which no model takes", dtype.descr()),
    })
}

fn encode(file: &mut impl Write, tensor: &Tensor) -> anyhow::Result<()> {
    match tensor.dtype() {
        DType::F32 => put::<f32>(file, tensor),
        DType::F16 => put::<f16>(file, tensor),
        DType::F64 => put::<f64>(file, tensor),
        DType::I8 => put::<i8>(file, tensor),
        DType::I16 => put::<i16>(file, tensor),
        DType::I32 => put::<i32>(file, tensor),
        DType::I64 => put::<i64>(file, tensor),
        DType::U8 => put::<u8>(file, tensor),
        DType::U16 => put::<u16>(file, tensor),
        DType::U32 => put::<u32>(file, tensor),
        DType::U64 => put::<u64>(file, tensor),
        DType::Bool => {
            let flags = tensor.as_slice::<u8>()?;
            put_all(file, tensor.shape(), flags.iter().map(|&flag| flag != 0))
        }
        DType::Bf16 => {
            let narrow = tensor.as_slice::<bf16>()?;
            put_all(file, tensor.shape(), narrow.iter().map(|x| x.to_f32()))
        }
        other => bail!("NumPy has no {other}"),
    }
}

fn put<T: Element + AutoSerialize>(file: &mut impl Write, tensor: &Tensor) -> anyhow::Result<()> {
    put_all(file, tensor.shape(), tensor.as_slice::<T>()?.iter().copied())
}

fn put_all<T: AutoSerialize>(
    file: &mut impl Write,
    shape: &Shape,
    elements: impl Iterator<Item = T>,
) -> anyhow::Result<()> {
    let dims: Vec<u64> = shape.iter().map(|&d| d as u64).collect();
    let options = npyz::WriteOptions::<T>::new().default_dtype().shape(&dims).writer(file);
    let mut writer = options.begin_nd()?;
    writer.extend(elements)?;
    Ok(writer.finish()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(tensor: &Tensor) -> Tensor {
        let mut file = Vec::new();
        encode(&mut file, tensor).unwrap();
        decode(&file[..], file.len() as u64).unwrap()
    }

    #[test]
    fn every_numpy_type_round_trips() {
        let bytes: Vec<u8> = (0..48).collect();
        let types = [
            (DType::F32, 12),
            (DType::F16, 24),
            (DType::F64, 6),
            (DType::I8, 48),
            (DType::I16, 24),
            (DType::I32, 12),
            (DType::I64, 6),
            (DType::U8, 48),
            (DType::U16, 24),
            (DType::U32, 12),
            (DType::U64, 6),
        ];
        for (dtype, elements) in types {
            let tensor = Tensor::new(dtype, [elements / 2, 2], bytes.clone()).unwrap();
            assert_eq!(round_trip(&tensor), tensor, "{dtype}");
        }
        let flags = Tensor::new(DType::Bool, [3], vec![0, 1, 1]).unwrap();
        assert_eq!(round_trip(&flags), flags);
    }

    #[test]
    fn scalars_and_empty_tensors_round_trip() {
        let scalar = Tensor::from_slice([], &[2.5f32]).unwrap();
        assert_eq!(round_trip(&scalar), scalar);
        let empty = Tensor::from_slice::<i64>([0, 4], &[]).unwrap();
        assert_eq!(round_trip(&empty), empty);
    }

    #[test]
    fn bf16_is_widened() {
        let tensor = Tensor::from_slice([1], &[bf16::from_f32(1.5)]).unwrap();
        assert_eq!(round_trip(&tensor), Tensor::from_slice([1], &[1.5f32]).unwrap());
    }

    #[test]
    fn column_major_files_are_read_in_row_major_order() {
        // numpy.asfortranarray([[1, 2, 3], [4, 5, 6]]) stores 1 4 2 5 3 6.
        let mut file = Vec::new();
        let options = npyz::WriteOptions::<i32>::new().default_dtype().order(Order::Fortran);
        let mut writer = options.shape(&[2, 3]).writer(&mut file).begin_nd().unwrap();
        writer.extend([1, 4, 2, 5, 3, 6]).unwrap();
        writer.finish().unwrap();
        let tensor = decode(&file[..], file.len() as u64).unwrap();
        assert_eq!(tensor, Tensor::from_slice([2, 3], &[1i32, 2, 3, 4, 5, 6]).unwrap());
    }

    #[test]
    fn a_truncated_file_is_refused() {
        let tensor = Tensor::from_slice([1000], &[0f32; 1000]).unwrap();
        let mut file = Vec::new();
        encode(&mut file, &tensor).unwrap();
        file.truncate(200);
        let error = decode(&file[..], 200).unwrap_err();
        assert!(error.to_string().contains("truncated"), "{error}");
    }

    #[test]
    fn what_is_not_npy_is_refused() {
        assert!(decode(&b"PK\x03\x04 not an array"[..], 20).is_err());
    }
}
