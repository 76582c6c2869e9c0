// lnorm from JavaScript, as the WebAssembly module that build.sh makes: rows of a Float32Array in, new arrays out.
//
//     const lnorm = await load(bytes);
//     const { y, mean, rstd } = lnorm.layerNorm(x, cols, { gamma, beta, eps: 1e-5 });
//
// Absent are gamma, which is then 1, and beta, 0. A refused call throws an LnormError.

const LNORM_OK = 0;
const LNORM_RMS_NORM = 1;

// Where the members of lnorm_problem that are used here are, with pointers of 32 bits.
export const PROBLEM = { sizeof: 184, struct_size: 0, operation: 4, outer: 32, norm: 40, eps: 88 };

const PAGE = 65536;

export class LnormError extends Error {
    constructor(status, text) {
        super(`${text} (status ${status})`);
        this.name = "LnormError";
        this.status = status;
    }
}

// bytes: of the module, as an ArrayBuffer or a typed array.
export async function load(bytes) {
    const { instance } = await WebAssembly.instantiate(bytes, {});
    instance.exports._initialize();
    return new Lnorm(instance.exports);
}

// The memory of one call, from __heap_base on; it is given back by forgetting it.
class Arena {
    constructor(wasm) {
        this.memory = wasm.memory;
        this.end = wasm.__heap_base.value;
    }

    // The address of so many bytes.
    allocate(bytes) {
        const address = Math.ceil(this.end / 16) * 16;
        this.end = address + bytes;
        const missing = this.end - this.memory.buffer.byteLength;
        if (missing > 0) {
            this.memory.grow(Math.ceil(missing / PAGE)); // throws a RangeError at 4 GB
        }
        return address;
    }

    // The address of a copy of the array; 0, which is NULL, of an absent one.
    put(array) {
        if (array == null) return 0;
        const address = this.allocate(array.byteLength);
        new Float32Array(this.memory.buffer, address, array.length).set(array);
        return address;
    }

    take(address, length) {
        return new Float32Array(this.memory.buffer, address, length).slice();
    }
}

function checkLength(name, array, length) {
    if (!(array instanceof Float32Array)) throw new TypeError(`${name} must be a Float32Array`);
    if (array.length !== length) throw new RangeError(`${name} must have ${length} elements, not ${array.length}`);
}

// How many rows x has.
function rowsOf(x, cols) {
    if (!Number.isSafeInteger(cols) || cols < 1) throw new RangeError("cols must be a positive integer");
    if (!(x instanceof Float32Array)) throw new TypeError("x must be a Float32Array");
    if (x.length % cols !== 0) throw new RangeError(`x must be rows of ${cols} elements, not ${x.length}`);
    return x.length / cols;
}

class Lnorm {
    constructor(wasm) {
        this.wasm = wasm;
    }

    layerNorm(x, cols, { gamma, beta, eps = 1e-5 } = {}) {
        const rows = rowsOf(x, cols);
        if (gamma != null) checkLength("gamma", gamma, cols);
        if (beta != null) checkLength("beta", beta, cols);
        const arena = new Arena(this.wasm);
        const inputs = [x, gamma, beta].map((array) => arena.put(array));
        const outputs = [x.length, rows, rows].map((length) => arena.allocate(4 * length));
        this.#check(this.wasm.lnorm_forward_f32(rows, cols, ...inputs, eps, ...outputs));
        const [y, mean, rstd] = outputs;
        return { y: arena.take(y, x.length), mean: arena.take(mean, rows), rstd: arena.take(rstd, rows) };
    }

    // mean and rstd: as layerNorm gave them.
    layerNormBackward(dy, x, cols, { mean, rstd, gamma }) {
        const rows = rowsOf(x, cols);
        checkLength("dy", dy, x.length);
        checkLength("mean", mean, rows);
        checkLength("rstd", rstd, rows);
        if (gamma != null) checkLength("gamma", gamma, cols);
        const arena = new Arena(this.wasm);
        const inputs = [dy, x, mean, rstd, gamma].map((array) => arena.put(array));
        const outputs = [x.length, cols, cols].map((length) => arena.allocate(4 * length));
        const size = this.wasm.lnorm_backward_workspace_f32(rows, cols) >>> 0;
        const workspace = arena.allocate(size);
        this.#check(this.wasm.lnorm_backward_f32(rows, cols, ...inputs, ...outputs, workspace, size));
        const [dx, dgamma, dbeta] = outputs;
        return { dx: arena.take(dx, x.length), dgamma: arena.take(dgamma, cols), dbeta: arena.take(dbeta, cols) };
    }

    // By the general form, which knows other operations, element types and strides.
    rmsNorm(x, cols, { gamma, eps = 1e-5 } = {}) {
        const rows = rowsOf(x, cols);
        if (gamma != null) checkLength("gamma", gamma, cols);
        const arena = new Arena(this.wasm);
        const inputs = [x, gamma].map((array) => arena.put(array));
        const y = arena.allocate(4 * x.length);
        const problem = arena.allocate(PROBLEM.sizeof);
        const members = new DataView(this.wasm.memory.buffer, problem, PROBLEM.sizeof);
        new Uint8Array(members.buffer, problem, PROBLEM.sizeof).fill(0);
        members.setUint32(PROBLEM.struct_size, PROBLEM.sizeof, true);
        members.setInt32(PROBLEM.operation, LNORM_RMS_NORM, true);
        members.setBigInt64(PROBLEM.outer, BigInt(rows), true);
        members.setBigInt64(PROBLEM.norm, BigInt(cols), true);
        members.setFloat64(PROBLEM.eps, eps, true);
        this.#check(this.wasm.lnorm_forward(problem, ...inputs, 0, y, 0, 0));
        return arena.take(y, x.length);
    }

    version() {
        return this.#text(this.wasm.lnorm_version());
    }

    isa() {
        return this.#text(this.wasm.lnorm_isa());
    }

    #check(status) {
        if (status !== LNORM_OK) {
            const text = this.wasm.lnorm_status_text; // the small module has none
            throw new LnormError(status, text ? this.#text(text(status)) : "refused");
        }
    }

    #text(address) {
        const bytes = new Uint8Array(this.wasm.memory.buffer, address);
        return new TextDecoder().decode(bytes.subarray(0, bytes.indexOf(0)));
    }
}
