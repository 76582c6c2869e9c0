//! lnorm from Rust, by the header alone: what is used of it is declared as extern "C".
//!
//!     rustc --edition 2021 -L native=PREFIX/lib -l static=lnorm -l m examples/rust/layer_norm.rs && ./layer_norm
//!
//! with PREFIX where lnorm is installed.
use std::ffi::CStr;
use std::os::raw::{c_char, c_void};
use std::{fmt, mem, ptr};

#[allow(non_camel_case_types)]
type lnorm_status = i32;

const LNORM_OK: lnorm_status = 0;
const LNORM_RMS_NORM: i32 = 1;

type Task = extern "C" fn(argument: *mut c_void, index: usize);
type ParallelFor = extern "C" fn(context: *mut c_void, count: usize, task: Task, argument: *mut c_void);

#[allow(non_camel_case_types)]
#[repr(C)]
struct lnorm_problem {
    struct_size: usize,
    operation: i32,
    x_type: i32,
    y_type: i32,
    param_type: i32,
    flags: u32,
    reserved: i32,
    outer: i64,
    norm: i64,
    inner: i64,
    x_stride: i64,
    y_stride: i64,
    dy_stride: i64,
    dx_stride: i64,
    eps: f64,
    parallel_for: Option<ParallelFor>,
    parallel_context: *mut c_void,
    x_norm_stride: i64,
    y_norm_stride: i64,
    dy_norm_stride: i64,
    dx_norm_stride: i64,
    param_rows: i64,
    param_repeat: i64,
    param_run: i64,
    residual_rows: i64,
    residual_stride: i64,
    total_stride: i64,
}

impl Default for lnorm_problem {
    fn default() -> Self {
        // LNORM_PROBLEM_INIT: all is 0, which is a value of each member, but the size.
        lnorm_problem { struct_size: mem::size_of::<lnorm_problem>(), ..unsafe { mem::zeroed() } }
    }
}

extern "C" {
    fn lnorm_forward_f32(
        rows: usize, cols: usize, x: *const f32, gamma: *const f32, beta: *const f32, eps: f64, y: *mut f32,
        mean: *mut f32, rstd: *mut f32,
    ) -> lnorm_status;
    fn lnorm_backward_f32(
        rows: usize, cols: usize, dy: *const f32, x: *const f32, mean: *const f32, rstd: *const f32,
        gamma: *const f32, dx: *mut f32, dgamma: *mut f32, dbeta: *mut f32, workspace: *mut c_void,
        workspace_size: usize,
    ) -> lnorm_status;
    fn lnorm_backward_workspace_f32(rows: usize, cols: usize) -> usize;
    fn lnorm_forward(
        problem: *const lnorm_problem, x: *const c_void, gamma: *const c_void, beta: *const c_void, y: *mut c_void,
        mean: *mut c_void, rstd: *mut c_void,
    ) -> lnorm_status;
    fn lnorm_status_text(status: lnorm_status) -> *const c_char;
    fn lnorm_version() -> *const c_char;
    fn lnorm_isa() -> *const c_char;
}

/// A text of the library's, which stays; where it is NULL, nothing.
fn text(of: *const c_char) -> &'static str {
    if of.is_null() { "" } else { unsafe { CStr::from_ptr(of) }.to_str().unwrap_or("") }
}

struct Error(lnorm_status);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (status {})", text(unsafe { lnorm_status_text(self.0) }), self.0)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {}

fn check(status: lnorm_status) -> Result<(), Error> {
    if status == LNORM_OK { Ok(()) } else { Err(Error(status)) }
}

/// The rows of x, which are as long as gamma.
fn rows(x: &[f32], gamma: &[f32]) -> usize {
    let rows = x.len() / gamma.len();
    assert_eq!(x.len(), rows * gamma.len(), "x must be rows of {} elements", gamma.len());
    rows
}

struct Forward {
    y: Vec<f32>,
    mean: Vec<f32>,
    rstd: Vec<f32>,
}

fn forward(x: &[f32], gamma: &[f32], beta: &[f32], eps: f64) -> Result<Forward, Error> {
    let rows = rows(x, gamma);
    assert_eq!(beta.len(), gamma.len(), "beta must be as long as gamma");
    let mut result = Forward { y: vec![0.0; x.len()], mean: vec![0.0; rows], rstd: vec![0.0; rows] };
    check(unsafe {
        lnorm_forward_f32(
            rows, gamma.len(), x.as_ptr(), gamma.as_ptr(), beta.as_ptr(), eps, result.y.as_mut_ptr(),
            result.mean.as_mut_ptr(), result.rstd.as_mut_ptr(),
        )
    })?;
    Ok(result)
}

struct Gradients {
    dx: Vec<f32>,
    dgamma: Vec<f32>,
    dbeta: Vec<f32>,
}

fn backward(dy: &[f32], x: &[f32], saved: &Forward, gamma: &[f32]) -> Result<Gradients, Error> {
    let (rows, cols) = (rows(x, gamma), gamma.len());
    assert_eq!(dy.len(), x.len(), "dy must be as long as x");
    assert_eq!(saved.mean.len(), rows, "mean and rstd must be those of x");
    let workspace_size = unsafe { lnorm_backward_workspace_f32(rows, cols) };
    let mut workspace = vec![0.0f32; workspace_size / mem::size_of::<f32>()];
    let mut result = Gradients { dx: vec![0.0; x.len()], dgamma: vec![0.0; cols], dbeta: vec![0.0; cols] };
    check(unsafe {
        lnorm_backward_f32(
            rows, cols, dy.as_ptr(), x.as_ptr(), saved.mean.as_ptr(), saved.rstd.as_ptr(), gamma.as_ptr(),
            result.dx.as_mut_ptr(), result.dgamma.as_mut_ptr(), result.dbeta.as_mut_ptr(),
            workspace.as_mut_ptr().cast(), workspace_size,
        )
    })?;
    Ok(result)
}

/// By the general form, which knows other operations, element types, strides and threads.
fn rms_norm(x: &[f32], gamma: &[f32], eps: f64) -> Result<Vec<f32>, Error> {
    let problem = lnorm_problem {
        operation: LNORM_RMS_NORM,
        outer: rows(x, gamma) as i64,
        norm: gamma.len() as i64,
        eps,
        ..Default::default()
    };
    let mut y = vec![0.0f32; x.len()];
    check(unsafe {
        lnorm_forward(
            &problem, x.as_ptr().cast(), gamma.as_ptr().cast(), ptr::null(), y.as_mut_ptr().cast(), ptr::null_mut(),
            ptr::null_mut(),
        )
    })?;
    Ok(y)
}

/// The first two rows.
fn print_rows(label: &str, values: &[f32]) {
    for row in values.chunks(4).take(2) {
        println!("{:9.5} {:9.5} {:9.5} {:9.5}  {label}", row[0], row[1], row[2], row[3]);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // 64 rows: these two, again and again.
    let x = [1.0, 2.0, 3.0, 4.0, 10.0, 10.0, 10.0, 50.0].repeat(32);
    let dy = [0.125, 0.03125, 0.0625, 0.09375, 0.03125, 0.0625, 0.09375, 0.125].repeat(32);
    let (gamma, beta) = ([1.0, 1.0, 2.0, 2.0], [0.0, 0.0, 0.0, 1.0]);

    let result = forward(&x, &gamma, &beta, 1e-5)?;
    print_rows("y", &result.y);
    let gradients = backward(&dy, &x, &result, &gamma)?;
    print_rows("dx", &gradients.dx);
    print_rows("dgamma", &gradients.dgamma);
    print_rows("dbeta", &gradients.dbeta);
    print_rows("RMS norm", &rms_norm(&x, &gamma, 1e-5)?);

    match forward(&x, &gamma, &beta, -1.0) {
        Err(error) => println!("refused: {error}"),
        Ok(_) => return Err("a negative eps was taken".into()),
    }
    println!("lnorm {}, {}", text(unsafe { lnorm_version() }), text(unsafe { lnorm_isa() }));
    Ok(())
}
