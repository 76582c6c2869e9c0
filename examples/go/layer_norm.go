// lnorm from Go: cgo reads lnorm.h itself.
//
//	PKG_CONFIG_PATH=PREFIX/lib/pkgconfig LD_LIBRARY_PATH=PREFIX/lib go run examples/go/layer_norm.go
//
// with PREFIX where lnorm is installed.
package main

// #cgo pkg-config: lnorm
// #include <lnorm.h>
import "C"

import (
	"errors"
	"fmt"
	"log"
	"unsafe"
)

// Error is the status of a refused call.
type Error C.lnorm_status

func (e Error) Error() string {
	return fmt.Sprintf("%s (status %d)", C.GoString(C.lnorm_status_text(C.lnorm_status(e))), int(e))
}

func check(status C.lnorm_status) error {
	if status != C.LNORM_OK {
		return Error(status)
	}
	return nil
}

// floats is the address of a slice's elements, NULL where there are none.
func floats(values []float32) *C.float {
	if len(values) == 0 {
		return nil
	}
	return (*C.float)(&values[0])
}

var errShape = errors.New("arguments whose lengths do not fit")

// shape tells how many rows x has, and of how many elements.
func shape(x, gamma []float32) (rows, cols int, err error) {
	cols = len(gamma)
	if cols == 0 || len(x)%cols != 0 {
		return 0, 0, errShape
	}
	return len(x) / cols, cols, nil
}

func forward(x, gamma, beta []float32, eps float64) (y, mean, rstd []float32, err error) {
	rows, cols, err := shape(x, gamma)
	if err != nil || len(beta) != cols {
		return nil, nil, nil, errShape
	}
	y, mean, rstd = make([]float32, len(x)), make([]float32, rows), make([]float32, rows)
	err = check(C.lnorm_forward_f32(C.size_t(rows), C.size_t(cols), floats(x), floats(gamma), floats(beta),
		C.double(eps), floats(y), floats(mean), floats(rstd)))
	return
}

func backward(dy, x, mean, rstd, gamma []float32) (dx, dgamma, dbeta []float32, err error) {
	rows, cols, err := shape(x, gamma)
	if err != nil || len(dy) != len(x) || len(mean) != rows || len(rstd) != rows {
		return nil, nil, nil, errShape
	}
	size := C.lnorm_backward_workspace_f32(C.size_t(rows), C.size_t(cols))
	workspace := make([]float32, size/4)
	dx, dgamma, dbeta = make([]float32, len(x)), make([]float32, cols), make([]float32, cols)
	err = check(C.lnorm_backward_f32(C.size_t(rows), C.size_t(cols), floats(dy), floats(x), floats(mean),
		floats(rstd), floats(gamma), floats(dx), floats(dgamma), floats(dbeta), unsafe.Pointer(floats(workspace)), size))
	return
}

// rmsNorm goes by the general form, which knows other operations, element types, strides and threads.
func rmsNorm(x, gamma []float32, eps float64) (y []float32, err error) {
	rows, cols, err := shape(x, gamma)
	if err != nil {
		return nil, err
	}
	problem := C.lnorm_problem{
		struct_size: C.sizeof_lnorm_problem,
		operation:   C.LNORM_RMS_NORM,
		outer:       C.int64_t(rows),
		norm:        C.int64_t(cols),
		eps:         C.double(eps),
	}
	y = make([]float32, len(x))
	err = check(C.lnorm_forward(&problem, unsafe.Pointer(floats(x)), unsafe.Pointer(floats(gamma)), nil,
		unsafe.Pointer(floats(y)), nil, nil))
	return
}

// printRows prints the first two rows.
func printRows(label string, values []float32) {
	for i := 0; i < len(values) && i < 8; i += 4 {
		fmt.Printf("%9.5f %9.5f %9.5f %9.5f  %s\n", values[i], values[i+1], values[i+2], values[i+3], label)
	}
}

func main() {
	// 64 rows: these two, again and again.
	var x, dy []float32
	for i := 0; i < 32; i++ {
		x = append(x, 1, 2, 3, 4, 10, 10, 10, 50)
		dy = append(dy, 0.125, 0.03125, 0.0625, 0.09375, 0.03125, 0.0625, 0.09375, 0.125)
	}
	gamma, beta := []float32{1, 1, 2, 2}, []float32{0, 0, 0, 1}

	y, mean, rstd, err := forward(x, gamma, beta, 1e-5)
	if err != nil {
		log.Fatal(err)
	}
	printRows("y", y)
	dx, dgamma, dbeta, err := backward(dy, x, mean, rstd, gamma)
	if err != nil {
		log.Fatal(err)
	}
	printRows("dx", dx)
	printRows("dgamma", dgamma)
	printRows("dbeta", dbeta)
	rms, err := rmsNorm(x, gamma, 1e-5)
	if err != nil {
		log.Fatal(err)
	}
	printRows("RMS norm", rms)

	_, _, _, err = forward(x, gamma, beta, -1)
	if err == nil {
		log.Fatal("a negative eps was taken")
	}
	fmt.Println("refused:", err)
	fmt.Printf("lnorm %s, %s\n", C.GoString(C.lnorm_version()), C.GoString(C.lnorm_isa()))
}
