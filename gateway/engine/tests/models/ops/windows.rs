//! Windows and samples over one to three axes, in forms that ONNX's node tests leave out.
//!
//! Every array holds `i * 7 % 11 - 5` for its i-th element. The answers are those of ONNX Runtime
//! 1.32 on the CPU, rounded to five digits; where it has none, they are worked by hand and say so.

use std::sync::Arc;

use gw_engine::PlanOptions;
use gw_tensor::Tensor;

use crate::onnx::{FLOAT, INT8, Onnx, Value};
use crate::run::{constants, kernels, plan, run};

fn data(count: usize) -> Vec<f32> {
    (0..count).map(|at| (at * 7 % 11) as f32 - 5.0).collect()
}

/// `op(x, …)` with further inputs that are known.
struct Case {
    op: &'static str,
    opset: i64,
    x: &'static [i64],
    /// Names and shapes of weights.
    weights: &'static [(&'static str, &'static [i64])],
    /// Inputs after them.
    floats: &'static [(&'static str, &'static [i64], &'static [f32])],
    ints: &'static [(&'static str, &'static [i64])],
    attributes: Vec<(&'static str, Value)>,
    due: Vec<(&'static [usize], Vec<f32>)>,
}

impl Case {
    fn new(op: &'static str, x: &'static [i64]) -> Self {
        let (weights, floats, ints) = (&[], &[], &[]);
        Self { op, opset: 17, x, weights, floats, ints, attributes: vec![], due: vec![] }
    }

    fn due(mut self, shape: &'static [usize], values: &[f32]) -> Self {
        self.due.push((shape, values.to_vec()));
        self
    }

    fn ints(mut self, name: &'static str, values: &[i64]) -> Self {
        self.attributes.push((name, Value::Ints(values.to_vec())));
        self
    }

    fn int(mut self, name: &'static str, value: i64) -> Self {
        self.attributes.push((name, Value::Int(value)));
        self
    }

    fn file(&self) -> Onnx {
        let mut file = Onnx::new(self.opset).input("x", FLOAT, self.x);
        let mut inputs = vec!["x"];
        for (name, dims) in self.weights {
            file = file.floats(name, dims, &data(dims.iter().product::<i64>() as usize));
            inputs.push(name);
        }
        for (name, dims, values) in self.floats {
            file = file.floats(name, dims, values);
            inputs.push(name);
        }
        for (name, values) in self.ints {
            file = file.ints(name, values);
            inputs.push(name);
        }
        let names: Vec<String> = (0..self.due.len()).map(|at| format!("y{at}")).collect();
        file = file.node_with(self.op, &inputs, &names.join(","), &self.attributes);
        names.iter().fold(file, |file, name| file.output(name))
    }

    fn check(&self) {
        let dims: Vec<usize> = self.x.iter().map(|&size| size as usize).collect();
        let x = Tensor::from_slice(dims.as_slice(), &data(dims.iter().product())).unwrap();
        let model = Arc::new(self.file().model());
        let inputs = [("x".to_owned(), x)];
        let Some(outputs) = run(&model, &inputs, PlanOptions::default()) else { return };
        for ((_, given), (shape, due)) in outputs.iter().zip(&self.due) {
            assert_eq!(given.shape().dims(), *shape, "{}", self.op);
            let given: Vec<f32> = match given.as_slice::<f32>() {
                Ok(given) => given.to_vec(),
                Err(_) => given.as_slice::<i64>().unwrap().iter().map(|&at| at as f32).collect(),
            };
            // Sums of a few dozen small whole numbers, or what five digits say.
            let off = given.iter().zip(due).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(off <= 1e-4, "{}: {given:?} where {due:?} is due", self.op);
        }
    }
}

#[test]
fn a_convolution_over_three_axes_is_one_over_two() {
    let mut case = Case::new("Conv", &[1, 2, 3, 3, 2]);
    case.weights = &[("w", &[2, 1, 2, 2, 1]), ("b", &[2])];
    let case = case
        .int("group", 2)
        .ints("strides", &[2, 1, 1])
        .ints("pads", &[1, 0, 0, 0, 1, 0])
        .ints("dilations", &[1, 2, 1])
        .due(
            &[1, 2, 2, 2, 2],
            &[
                10.0, -24.0, -1.0, -15.0, -46.0, 9.0, 5.0, -22.0, 2.0, -14.0, 14.0, -2.0, -28.0,
                19.0, -1.0, -21.0,
            ],
        );
    case.check();
}

#[test]
fn a_convolution_over_four_axes_is_one_over_two() {
    // By hand: the window sums x where all four places are equal in parity.
    let mut case = Case::new("Conv", &[1, 1, 2, 1, 1, 2]);
    case.floats = &[("w", &[1, 1, 2, 1, 1, 2], &[1.0, 10.0, 100.0, 1000.0])];
    case.due(&[1, 1, 1, 1, 1, 1], &[-5.0 + 20.0 - 200.0 + 5000.0]).check();
}

#[test]
fn transposed_convolutions_add_what_overlaps() {
    let mut case = Case::new("ConvTranspose", &[1, 2, 2, 1, 2]);
    case.weights = &[("w", &[2, 1, 2, 1, 2])];
    let case = case
        .int("group", 2)
        .ints("strides", &[1, 1, 2])
        .ints("pads", &[1, 0, 0, 0, 0, 0])
        .ints("output_padding", &[0, 0, 1])
        .due(
            &[1, 2, 2, 1, 5],
            &[
                20.0, -29.0, -29.0, 20.0, 0.0, 4.0, -10.0, -10.0, 25.0, 0.0, 8.0, -12.0, -12.0,
                0.0, 0.0, 16.0, 0.0, 0.0, 0.0, 0.0,
            ],
        );
    case.check();
}

#[test]
fn transposed_windows_side_by_side_need_no_fold() {
    let mut case = Case::new("ConvTranspose", &[1, 2, 2, 2]);
    case.weights = &[("w", &[2, 1, 2, 2]), ("b", &[1])];
    let case = case.ints("strides", &[2, 2]).due(
        &[1, 1, 4, 4],
        &[
            21.0, -18.0, -18.0, 8.0, 9.0, -30.0, -21.0, 5.0, 9.0, -21.0, -30.0, 5.0, 15.0, -15.0,
            -15.0, 20.0,
        ],
    );
    case.check();
    let x = Tensor::from_slice([1, 2, 2, 2], &data(8)).unwrap();
    let plan = plan(&case.file().model(), &[("x".to_owned(), x)], PlanOptions::default());
    assert!(!kernels(&plan).contains(&"fold"));
}

#[test]
fn the_places_of_maxima_count_columns_first_where_asked() {
    Case::new("MaxPool", &[1, 1, 2, 3, 3])
        .ints("kernel_shape", &[2, 2, 2])
        .int("storage_order", 1)
        .due(&[1, 1, 1, 2, 2], &[5.0; 4])
        .due(&[1, 1, 1, 2, 2], &[2.0, 15.0, 2.0, 15.0])
        .check();
}

#[test]
fn padding_is_below_every_byte() {
    let file = Onnx::new(17)
        .input("x", INT8, &[1, 1, 5])
        .node_with(
            "MaxPool",
            &["x"],
            "y",
            &[
                ("kernel_shape", Value::Ints(vec![2])),
                ("strides", Value::Ints(vec![3])),
                ("pads", Value::Ints(vec![1, 1])),
            ],
        )
        .output("y");
    let x = Tensor::from_slice([1, 1, 5], &[-5i8, 2, -2, 5, 1]).unwrap();
    let model = Arc::new(file.model());
    let Some(outputs) = run(&model, &[("x".to_owned(), x)], PlanOptions::default()) else { return };
    assert_eq!(*outputs[0].1.as_slice::<i8>().unwrap(), [-5, 5]);
}

#[test]
fn a_window_over_all_of_x_is_a_reduction() {
    // By hand. Software adapters leave loops of so many turns without a word.
    let case = Case::new("AveragePool", &[1, 1, 1, 66_000]).ints("kernel_shape", &[1, 66_000]);
    let values = data(66_000);
    let mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / 66_000.0;
    case.due(&[1, 1, 1, 1], &[mean as f32]).check();
}

#[test]
fn norms_of_whole_planes_take_any_power() {
    Case::new("GlobalLpPool", &[1, 2, 2, 2])
        .int("p", 3)
        .due(&[1, 2, 1, 1], &[6.43123, 4.51436])
        .check();
}

#[test]
fn regions_are_pooled_by_elements_and_by_points() {
    let mut case = Case::new("MaxRoiPool", &[1, 1, 4, 4]);
    case.floats = &[("rois", &[1, 5], &[0.0, 1.0, 0.0, 3.0, 2.0])];
    case.ints("pooled_shape", &[2, 2]).due(&[1, 1, 2, 2], &[4.0, 5.0, 4.0, 4.0]).check();
    let mut case = Case::new("RoiAlign", &[1, 1, 4, 4]);
    case.floats = &[("rois", &[1, 4], &[0.0, 0.0, 3.5, 2.5])];
    case.ints = &[("batches", &[0])];
    case.int("output_width", 2).due(&[1, 1, 1, 2], &[-1.36632, 0.64844]).check();
}

#[test]
fn a_region_of_no_batch_entry_is_zero() {
    let mut case = Case::new("RoiAlign", &[1, 1, 4, 4]);
    case.floats = &[("rois", &[2, 4], &[0.0, 0.0, 3.5, 2.5, 0.0, 0.0, 3.5, f32::INFINITY])];
    case.ints = &[("batches", &[-1, 1])];
    case.due(&[2, 1, 1, 1], &[0.0, 0.0]).check();
}

#[test]
fn older_operator_sets_resize_from_the_corner() {
    let mut case = Case::new("Upsample", &[1, 1, 2, 2]);
    case.opset = 9;
    case.floats = &[("scales", &[4], &[1.0, 1.0, 2.0, 2.0])];
    case.attributes.push(("mode", Value::Text("linear")));
    let due = [-5.0, -1.5, 2.0, 2.0, -3.5, 0.0, 3.5, 3.5, -2.0, 1.5, 5.0, 5.0, -2.0, 1.5, 5.0, 5.0];
    case.due(&[1, 1, 4, 4], &due).check();
    let mut case = Case::new("Resize", &[1, 1, 2, 4]);
    case.opset = 10;
    case.floats = &[("scales", &[4], &[1.0, 1.0, 2.0, 0.5])];
    let due = [-5.0, -2.0, -5.0, -2.0, 1.0, 4.0, 1.0, 4.0];
    case.due(&[1, 1, 4, 2], &due).check();
}

#[test]
fn a_nearest_neighbour_of_whole_factors_is_a_view() {
    let mut case = Case::new("Resize", &[1, 1, 2, 2]);
    case.floats = &[("roi", &[0], &[]), ("scales", &[4], &[1.0, 1.0, 2.0, 2.0])];
    let due =
        [-5.0, -5.0, 2.0, 2.0, -5.0, -5.0, 2.0, 2.0, -2.0, -2.0, 5.0, 5.0, -2.0, -2.0, 5.0, 5.0];
    let case = case.due(&[1, 1, 4, 4], &due);
    case.check();
    let x = Tensor::from_slice([1, 1, 2, 2], &data(4)).unwrap();
    let plan = plan(&case.file().model(), &[("x".to_owned(), x)], PlanOptions::default());
    // One step: the copy to the output.
    assert_eq!(kernels(&plan), ["pointwise"]);
}

#[test]
fn bytes_are_interpolated_as_numbers_and_rounded() {
    // By hand: halves between -5, 2 and -2 are -1.5 and 0, which stay at the even side.
    let file = Onnx::new(17)
        .input("x", INT8, &[3])
        .floats("roi", &[0], &[])
        .floats("scales", &[1], &[2.0])
        .node_with(
            "Resize",
            &["x", "roi", "scales"],
            "y",
            &[
                ("mode", Value::Text("linear")),
                ("coordinate_transformation_mode", Value::Text("asymmetric")),
            ],
        )
        .output("y");
    let x = Tensor::from_slice([3], &[-5i8, 2, -2]).unwrap();
    let model = Arc::new(file.model());
    let Some(outputs) = run(&model, &[("x".to_owned(), x)], PlanOptions::default()) else { return };
    assert_eq!(*outputs[0].1.as_slice::<i8>().unwrap(), [-5, -2, 2, 0, -2, -2]);
}

#[test]
fn negative_pads_cut_and_reflections_go_on() {
    let mut case = Case::new("Pad", &[2, 3]);
    case.ints = &[("pads", &[1, -1, 0, 2])];
    let due = [0.0, 0.0, 0.0, 0.0, 2.0, -2.0, 0.0, 0.0, 1.0, -3.0, 0.0, 0.0];
    case.due(&[3, 4], &due).check();
    // By hand, as NumPy does: ONNX Runtime stops at one reflection.
    let mut case = Case::new("Pad", &[3]);
    case.ints = &[("pads", &[5, 4])];
    case.attributes.push(("mode", Value::Text("reflect")));
    let due = [2.0, -5.0, 2.0, -2.0, 2.0, -5.0, 2.0, -2.0, 2.0, -5.0, 2.0, -2.0];
    case.due(&[12], &due).check();
}

#[test]
fn padded_sizes_are_known_before_the_run() {
    let file = Onnx::new(17)
        .ints("x", &[3, 4])
        .ints("pads", &[1, 2])
        .ints("value", &[7])
        .node("Pad", &["x", "pads", "value"], "y")
        .output("y")
        .node_with("Pad", &["x", "pads"], "z", &[("mode", Value::Text("edge"))])
        .output("z");
    let known = constants(&file.model());
    assert_eq!(*known[0].as_slice::<i64>().unwrap(), [7, 3, 4, 7, 7]);
    assert_eq!(*known[1].as_slice::<i64>().unwrap(), [3, 3, 4, 4, 4]);
}

#[test]
fn what_windows_cannot_be_is_an_error_that_says_so() {
    let error = |case: Case| {
        let x: Vec<usize> = case.x.iter().map(|&size| size as usize).collect();
        let shapes = [("x".to_owned(), x.as_slice().into())].into();
        let caps = gw_shaders::kernel::Caps::minimal();
        let plan = case.file().model().plan(&shapes, &caps, &PlanOptions::default());
        plan.unwrap_err().to_string()
    };
    let pooled = Case::new("MaxPool", &[1, 1, 2, 2, 2, 2]).ints("kernel_shape", &[1, 1, 1, 1]);
    assert!(error(pooled.due(&[], &[])).contains("a pooling window over 4 axes"));
    let far = Case::new("AveragePool", &[1, 1, 4]).ints("kernel_shape", &[2]);
    let far = far.ints("pads", &[i64::MAX, 0]).ints("strides", &[i64::MAX]);
    assert!(error(far.due(&[], &[])).contains("window: expected at most"));
    let mut wide = Case::new("ConvTranspose", &[1, 1, 3]);
    wide.weights = &[("w", &[1, 1, 2])];
    let mut wide = wide.ints("output_shape", &[9]);
    wide.attributes.push(("auto_pad", Value::Text("SAME_UPPER")));
    assert!(error(wide.due(&[], &[])).contains("given 9 elements for 4 that windows cover"));
    let mut resized = Case::new("Resize", &[4]);
    resized.floats = &[("roi", &[0], &[]), ("scales", &[1], &[f32::NAN])];
    assert!(error(resized.due(&[], &[])).contains("scales: expected numbers above 0"));
}
