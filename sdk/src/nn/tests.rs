use super::*;

#[test]
fn values_that_do_not_fill_the_shape_are_refused() {
    let error = Tensor::new([1, 3, 2], vec![0f32; 7]).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Mismatch);
    assert_eq!(error.message, "a tensor of [1, 3, 2] takes 6 values, not 7");
    let error = Tensor::new([usize::MAX, 2], [0u8; 0]).unwrap_err();
    assert!(error.message.contains("takes too many values, not 0"), "{error}");
    assert!(Tensor::new([usize::MAX, 0, 2], [0u8; 0]).is_ok());
    assert!(Tensor::new([], [1f32]).is_ok());
}

#[test]
fn rows_lie_along_the_innermost_dimension() {
    let tensor = Tensor::new([2, 1, 2], [1i64, 2, 3, 4]).unwrap();
    assert!(tensor.rows().eq([[1, 2], [3, 4]]));
    assert_eq!(Tensor::new([2, 0], [0f32; 0]).unwrap().rows().len(), 0);
    assert!(Tensor::new([], [5f32]).unwrap().rows().eq([[5.0]]));
}

#[test]
fn an_unexpected_shape_is_said_with_the_expected_one() {
    let tensor = Tensor::new([1, 1001], vec![0f32; 1001]).unwrap();
    let error = tensor.clone().expect_dims([None, Some(1000)]).unwrap_err();
    assert_eq!(error.message, "a tensor is [1, 1001] where [any, 1000] is expected");
    assert!(tensor.clone().expect_dims([None, Some(1001)]).is_ok());
    assert!(tensor.clone().expect_dims([None, None, None]).is_err());
    assert_eq!(tensor.shape().unwrap(), [1, 1001]);
    assert!(tensor.shape::<3>().is_err());
}

fn outputs() -> Outputs {
    let input = Input::from(Tensor::new([2, 1], [1i64, i64::MIN]).unwrap());
    Outputs(vec![Named::here(
        "ids".to_owned(),
        input.dims.clone(),
        input.ty,
        input.bytes().to_vec(),
    )])
}

#[test]
fn elements_survive_the_way_through_bytes() {
    let tensor = outputs().read::<i64>("ids").unwrap();
    assert_eq!(tensor, Tensor::new([2, 1], [1, i64::MIN]).unwrap());
    let error = tensor.expect_dims([Some(3), None]).unwrap_err();
    assert_eq!(error.message, "output \"ids\" is [2, 1] where [3, any] is expected");
}

#[test]
fn a_wrong_type_or_name_is_said_with_the_right_one() {
    let error = outputs().read::<f32>("ids").unwrap_err();
    assert_eq!(error.kind, ErrorKind::Mismatch);
    assert_eq!(error.message, "output \"ids\" holds i64, not f32: read it with `read::<i64>`");
    let error = outputs().read::<f32>("logits").unwrap_err();
    assert_eq!(error.kind, ErrorKind::Mismatch);
    assert_eq!(error.message, "the model has no output \"logits\", only ids");
}

#[test]
fn bytes_that_do_not_fill_the_shape_are_an_error() {
    let outputs =
        Outputs(vec![Named::here("y".to_owned(), vec![3], ElementType::Fp32, vec![0; 7])]);
    let error = outputs.read::<f32>("y").unwrap_err();
    assert_eq!(error.message, "output \"y\": a tensor of [3] takes 3 values, not 1");
}
