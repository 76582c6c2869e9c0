//! lnorm from Rust, by the header alone: what is used of it is declared as extern "C".
//!
//!     rustc --edition 2021 -L native=DIR -l static=lnorm examples/rust/layer_norm.rs && ./layer_norm
//!
//! with DIR where liblnorm.a lies.
use std::ffi::{c_char, c_void, CStr};
use std::fmt;

#[allow(non_camel_case_types)]
type lnorm_status = i32;

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
    fn lnorm_status_text(status: lnorm_status) -> *const c_char;
    fn lnorm_isa() -> *const c_char;
}

#[derive(Debug)]
struct Error(lnorm_status);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The text is never NULL, whatever the status.
        f.write_str(unsafe { CStr::from_ptr(lnorm_status_text(self.0)) }.to_str().unwrap_or("?"))
    }
}

fn check(status: lnorm_status) -> Result<(), Error> {
    if status == 0 { Ok(()) } else { Err(Error(status)) }
}

/// What forward leaves for backward.
struct Saved {
    mean: Vec<f32>,
    rstd: Vec<f32>,
}

struct LayerNorm {
    gamma: Vec<f32>,
    beta: Vec<f32>,
    eps: f64,
}

impl LayerNorm {
    fn forward(&self, x: &[f32]) -> Result<(Vec<f32>, Saved), Error> {
        let cols = self.gamma.len();
        let rows = x.len() / cols;
        assert_eq!(x.len(), rows * cols, "x must be rows of {cols} elements");
        let mut y = vec![0.0; x.len()];
        let mut saved = Saved { mean: vec![0.0; rows], rstd: vec![0.0; rows] };
        check(unsafe {
            lnorm_forward_f32(
                rows, cols, x.as_ptr(), self.gamma.as_ptr(), self.beta.as_ptr(), self.eps, y.as_mut_ptr(),
                saved.mean.as_mut_ptr(), saved.rstd.as_mut_ptr(),
            )
        })?;
        Ok((y, saved))
    }

    /// dx, dgamma and dbeta.
    fn backward(&self, dy: &[f32], x: &[f32], saved: &Saved) -> Result<(Vec<f32>, Vec<f32>, Vec<f32>), Error> {
        let (rows, cols) = (saved.mean.len(), self.gamma.len());
        assert!(dy.len() == rows * cols && x.len() == dy.len(), "dy and x must have {rows} x {cols} elements");
        let size = unsafe { lnorm_backward_workspace_f32(rows, cols) };
        let mut workspace = vec![0.0f32; size.div_ceil(4)];
        let (mut dx, mut dgamma, mut dbeta) = (vec![0.0; x.len()], vec![0.0; cols], vec![0.0; cols]);
        check(unsafe {
            lnorm_backward_f32(
                rows, cols, dy.as_ptr(), x.as_ptr(), saved.mean.as_ptr(), saved.rstd.as_ptr(), self.gamma.as_ptr(),
                dx.as_mut_ptr(), dgamma.as_mut_ptr(), dbeta.as_mut_ptr(), workspace.as_mut_ptr().cast(),
                4 * workspace.len(),
            )
        })?;
        Ok((dx, dgamma, dbeta))
    }
}

fn main() -> Result<(), String> {
    let mut norm = LayerNorm { gamma: vec![1.0, 1.0, 2.0, 2.0], beta: vec![0.0, 0.0, 0.0, 1.0], eps: 1e-5 };
    let x = [1.0, 2.0, 3.0, 4.0, 10.0, 10.0, 10.0, 50.0];
    let (y, saved) = norm.forward(&x).map_err(|e| e.to_string())?;
    for row in y.chunks(4) {
        println!("{:9.5} {:9.5} {:9.5} {:9.5}", row[0], row[1], row[2], row[3]);
    }
    let (dx, _, dbeta) = norm.backward(&[1.0; 8], &x, &saved).map_err(|e| e.to_string())?;
    assert_eq!(dbeta, [2.0; 4]);
    assert!(dx.iter().take(4).sum::<f32>().abs() < 1e-6);

    norm.eps = -1.0;
    match norm.forward(&x) {
        Err(error) => println!("refused: {error}"),
        Ok(_) => return Err("a negative eps was taken".into()),
    }
    println!("{}", unsafe { CStr::from_ptr(lnorm_isa()) }.to_str().unwrap_or("?"));
    Ok(())
}
