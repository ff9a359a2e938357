use super::*;

/// A file that `tests/data/make.py` wrote.
macro_rules! file {
    ($name:literal) => {
        include_bytes!(concat!("../../tests/data/", $name)).as_slice()
    };
}

fn picture() -> Image {
    Image::decode(file!("picture.png")).unwrap()
}

/// The largest and the mean difference of two pictures' values.
#[track_caller]
fn difference(given: &Image, expected: &Image) -> (u8, f64) {
    assert_eq!((given.width, given.height), (expected.width, expected.height));
    let differences = given.pixels.iter().zip(&expected.pixels).map(|(a, b)| a.abs_diff(*b));
    let largest = differences.clone().max().unwrap();
    (largest, differences.map(f64::from).sum::<f64>() / given.pixels.len() as f64)
}

#[test]
fn sizes_agree_with_pillow_to_the_bit() {
    let cases = [
        (Filter::Bilinear, file!("bilinear-23x19.png")),
        (Filter::Bilinear, file!("bilinear-90x60.png")),
        (Filter::Bicubic, file!("bicubic-23x19.png")),
        (Filter::Lanczos, file!("lanczos-23x19.png")),
        (Filter::Mean, file!("box-23x19.png")),
    ];
    for (filter, expected) in cases {
        let expected = Image::decode(expected).unwrap();
        let given = picture().resize_by(filter, expected.width, expected.height).unwrap();
        assert_eq!(difference(&given, &expected), (0, 0.0), "{filter:?} to {expected:?}");
    }
    // Without the antialiasing it is another picture, so the comparison can fail.
    let expected = Image::decode(file!("bilinear-23x19.png")).unwrap();
    let given = picture().resize_by(Filter::Linear, 23, 19).unwrap();
    assert!(difference(&given, &expected).0 > 10);
}

#[test]
fn linear_looks_at_four_pixels_only() {
    // Every other column is white; a quarter of the size hits one black and one white column.
    let row: Vec<u8> = (0..8).flat_map(|x| [if x % 2 == 0 { 0 } else { 200 }; 3]).collect();
    let image = Image::new(8, 1, row).unwrap();
    let given = image.resize_by(Filter::Linear, 2, 1).unwrap();
    assert!(given.pixels().iter().all(|&value| value.abs_diff(100) <= 1), "{:?}", given.pixels());
    let given = image.resize_by(Filter::Nearest, 4, 1).unwrap();
    assert!(given.pixels().iter().all(|value| [0, 200].contains(value)), "{:?}", given.pixels());
}

#[test]
fn jpegs_are_what_pillow_sees() {
    let expected = Image::decode(file!("picture-jpg.png")).unwrap();
    let (largest, mean) = difference(&Image::decode(file!("picture.jpg")).unwrap(), &expected);
    // Decoders differ in how they widen the colours of four pixels.
    assert!(mean < 1.0 && largest < 40, "{largest} {mean}");
    let (_, mean) = difference(&Image::decode(file!("progressive.jpg")).unwrap(), &expected);
    assert!(mean < 1.0, "{mean}");
    let grey = Image::decode(file!("grey.jpg")).unwrap();
    assert!(
        grey.pixels().chunks_exact(3).all(|pixel| pixel[0] == pixel[1] && pixel[1] == pixel[2])
    );
    let (_, mean) = difference(&Image::decode(file!("cmyk.jpg")).unwrap(), &picture());
    assert!(mean < 6.0, "{mean}");
}

#[test]
fn a_camera_that_was_turned_gives_an_upright_picture() {
    let (_, mean) = difference(&Image::decode(file!("turned.jpg")).unwrap(), &picture());
    assert!(mean < 3.0, "{mean}");
}

#[test]
fn other_kinds_of_pixels_become_eight_bits_of_three_colours() {
    assert_eq!(Image::decode(file!("see-through.png")).unwrap(), picture());
    let grey = Image::decode(file!("grey16.png")).unwrap();
    let [red, green, blue] = [299, 587, 114];
    for (given, pixel) in grey.pixels().chunks_exact(3).zip(picture().pixels().chunks_exact(3)) {
        let sum = red * u32::from(pixel[0]) + green * u32::from(pixel[1]);
        let expected = (sum + blue * u32::from(pixel[2]) + 500) / 1000;
        assert!(u32::from(given[0]).abs_diff(expected) <= 1, "{given:?} for {pixel:?}");
    }
}

/// A PNG that says it has this size, and has nothing else.
fn bomb(width: u32, height: u32) -> Vec<u8> {
    let mut file = file!("picture.png")[..16].to_vec();
    file.extend(width.to_be_bytes());
    file.extend(height.to_be_bytes());
    file.extend([8, 2, 0, 0, 0]);
    let checksum = crc(&file[12..29]);
    file.extend(checksum.to_be_bytes());
    file.extend(&file!("picture.png")[33..]);
    file
}

/// The checksum of PNG's chunks.
fn crc(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

#[test]
fn hostile_files_are_refused_with_a_reason() {
    let cut = |file: &[u8], share: usize| file[..file.len() * share / 100].to_vec();
    let cases = [
        ("nothing", vec![], 415, "unsupported_image"),
        ("a text", b"hello".to_vec(), 415, "unsupported_image"),
        ("a GIF", b"GIF89a\x01\x00\x01\x00\x00\x00\x00;".to_vec(), 415, "unsupported_image"),
        ("a bomb", bomb(60_000, 60_000), 413, "image_too_large"),
        ("the largest bomb", bomb(0x7fff_ffff, 0x7fff_ffff), 413, "image_too_large"),
        ("no width", bomb(0, 47), 422, "invalid_image"),
        ("no height", bomb(61, 0), 422, "invalid_image"),
        ("a lie", bomb(62, 47), 422, "invalid_image"),
        ("half a PNG", cut(file!("picture.png"), 50), 422, "invalid_image"),
        ("a head", cut(file!("picture.png"), 1), 422, "invalid_image"),
        ("a JPEG's head", cut(file!("picture.jpg"), 10), 422, "invalid_image"),
    ];
    for (what, file, status, code) in cases {
        let error = Image::decode(&file).expect_err(what);
        assert_eq!((error.status, error.code.as_str()), (status, code), "{what}: {error}");
        assert_eq!(error.field.as_deref(), Some("body"), "{what}");
    }
    let error = Image::decode_within(file!("picture.png"), 61 * 47 - 1).unwrap_err();
    assert!(error.message.starts_with("61 × 47 pixels are more than the 2866"), "{error}");
    assert!(Image::decode_within(file!("picture.png"), 61 * 47).is_ok());
}

#[test]
fn damaged_files_never_panic() {
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut below = |bound: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 33) as usize % bound
    };
    for file in [file!("picture.png"), file!("progressive.jpg"), file!("turned.jpg")] {
        for _ in 0..300 {
            let mut file = file.to_vec();
            for _ in 0..=below(4) {
                let at = below(file.len());
                file[at] = u8::try_from(below(256)).unwrap();
            }
            file.truncate(file.len() - below(2) * below(file.len()));
            if let Ok(image) = Image::decode(&file) {
                assert_eq!(image.pixels.len() as u64, u64::from(image.width * image.height) * 3);
            }
        }
    }
}

#[test]
fn parts_lie_within_the_picture() {
    let image = Image::new(3, 2, (0..18).collect()).unwrap();
    let part = image.crop(1, 1, 2, 1).unwrap();
    assert_eq!((part.width(), part.height(), part.pixels()), (2, 1, &[12, 13, 14, 15, 16, 17][..]));
    assert_eq!(image.crop(0, 0, 3, 2).unwrap(), image);
    for (x, y, width, height) in
        [(0, 0, 0, 1), (0, 0, 1, 0), (2, 0, 2, 1), (0, 1, 1, 2), (u32::MAX, 0, 2, 1)]
    {
        let error = image.crop(x, y, width, height).unwrap_err();
        assert_eq!(error.code, "wrong_crop", "{x} {y} {width} {height}");
    }
}

#[test]
fn sizes_without_pixels_or_with_too_many_are_refused() {
    for (width, height) in [(0, 5), (5, 0), (u32::MAX, u32::MAX), (1 << 20, 1 << 10)] {
        assert_eq!(picture().resize(width, height).unwrap_err().code, "wrong_size");
    }
    assert_eq!(Image::new(0, 1, vec![]).unwrap_err().code, "wrong_image");
    assert_eq!(Image::new(2, 1, vec![0; 5]).unwrap_err().code, "wrong_image");
}

#[test]
fn a_tensor_has_the_layout_and_order_that_are_asked_for() {
    let image = Image::new(2, 1, vec![10, 20, 30, 40, 50, 60]).unwrap();
    let (mean, scale) = ([10.0, 0.0, 0.0], [1.0, 0.1, 1.0]);
    let cases = [
        (Layout::Nchw, Order::Rgb, [1, 3, 1, 2], [0.0, 30.0, 2.0, 5.0, 30.0, 60.0]),
        (Layout::Nhwc, Order::Rgb, [1, 1, 2, 3], [0.0, 2.0, 30.0, 30.0, 5.0, 60.0]),
        (Layout::Nchw, Order::Bgr, [1, 3, 1, 2], [20.0, 50.0, 2.0, 5.0, 10.0, 40.0]),
        (Layout::Nhwc, Order::Bgr, [1, 1, 2, 3], [20.0, 2.0, 10.0, 50.0, 5.0, 40.0]),
    ];
    for (layout, order, dims, values) in cases {
        let tensor = image.to_tensor(layout, order, mean, scale);
        assert_eq!(tensor, Tensor::new(dims, values).unwrap(), "{layout:?} {order:?}");
    }
}
