//! lnorm from Zig, which translates lnorm.h itself: see build.zig.
const std = @import("std");
const c = @import("lnorm");

fn check(status: c.lnorm_status) error{RefusedByLnorm}!void {
    if (status != c.LNORM_OK) return error.RefusedByLnorm;
}

/// How many rows of cols elements x has.
fn rowCount(x: []const f32, cols: usize) usize {
    return @divExact(x.len, cols);
}

/// mean and rstd have one element for each row of x.
fn forward(x: []const f32, gamma: []const f32, beta: []const f32, eps: f64, y: []f32, mean: []f32, rstd: []f32) c.lnorm_status {
    const rows = rowCount(x, gamma.len);
    std.debug.assert(beta.len == gamma.len and y.len == x.len and mean.len == rows and rstd.len == rows);
    return c.lnorm_forward_f32(rows, gamma.len, x.ptr, gamma.ptr, beta.ptr, eps, y.ptr, mean.ptr, rstd.ptr);
}

const Gradients = struct { dx: []f32, dgamma: []f32, dbeta: []f32 };

fn backward(
    allocator: std.mem.Allocator,
    dy: []const f32,
    x: []const f32,
    mean: []const f32,
    rstd: []const f32,
    gamma: []const f32,
    out: Gradients,
) !c.lnorm_status {
    const rows = rowCount(x, gamma.len);
    std.debug.assert(dy.len == x.len and mean.len == rows and rstd.len == rows);
    std.debug.assert(out.dx.len == x.len and out.dgamma.len == gamma.len and out.dbeta.len == gamma.len);
    const size = c.lnorm_backward_workspace_f32(rows, gamma.len);
    const workspace = try allocator.alloc(f32, size / @sizeOf(f32));
    defer allocator.free(workspace);
    return c.lnorm_backward_f32(
        rows,
        gamma.len,
        dy.ptr,
        x.ptr,
        mean.ptr,
        rstd.ptr,
        gamma.ptr,
        out.dx.ptr,
        out.dgamma.ptr,
        out.dbeta.ptr,
        workspace.ptr,
        size,
    );
}

/// By the general form, which knows other operations, element types, strides and threads.
fn rmsNorm(x: []const f32, gamma: []const f32, eps: f64, y: []f32) c.lnorm_status {
    std.debug.assert(y.len == x.len);
    const problem: c.lnorm_problem = .{
        .struct_size = @sizeOf(c.lnorm_problem),
        .operation = c.LNORM_RMS_NORM,
        .outer = @intCast(rowCount(x, gamma.len)),
        .norm = @intCast(gamma.len),
        .eps = eps,
    };
    return c.lnorm_forward(&problem, x.ptr, gamma.ptr, null, y.ptr, null, null);
}

/// The first two rows.
fn printRows(writer: *std.Io.Writer, label: []const u8, values: []const f32) !void {
    var i: usize = 0;
    while (i < @min(values.len, 8)) : (i += 4) {
        for (values[i..][0..4]) |value| try writer.print("{d:9.5} ", .{value});
        try writer.print(" {s}\n", .{label});
    }
}

pub fn main(init: std.process.Init) !void {
    var buffer: [1024]u8 = undefined;
    var file: std.Io.File.Writer = .initStreaming(.stdout(), init.io, &buffer);
    const out = &file.interface;

    // 64 rows: these two, again and again.
    const x: [256]f32 = @bitCast(@as([32][8]f32, @splat(.{ 1, 2, 3, 4, 10, 10, 10, 50 })));
    const dy: [256]f32 = @bitCast(@as([32][8]f32, @splat(.{ 0.125, 0.03125, 0.0625, 0.09375, 0.03125, 0.0625, 0.09375, 0.125 })));
    const gamma = [_]f32{ 1, 1, 2, 2 };
    const beta = [_]f32{ 0, 0, 0, 1 };
    var y: [256]f32 = undefined;
    var mean: [64]f32 = undefined;
    var rstd: [64]f32 = undefined;
    try check(forward(&x, &gamma, &beta, 1e-5, &y, &mean, &rstd));
    try printRows(out, "y", &y);

    var dx: [256]f32 = undefined;
    var dgamma: [4]f32 = undefined;
    var dbeta: [4]f32 = undefined;
    const gradients: Gradients = .{ .dx = &dx, .dgamma = &dgamma, .dbeta = &dbeta };
    try check(try backward(init.gpa, &dy, &x, &mean, &rstd, &gamma, gradients));
    try printRows(out, "dx", &dx);
    try printRows(out, "dgamma", &dgamma);
    try printRows(out, "dbeta", &dbeta);

    try check(rmsNorm(&x, &gamma, 1e-5, &y));
    try printRows(out, "RMS norm", &y);

    const status = forward(&x, &gamma, &beta, -1, &y, &mean, &rstd);
    if (status == c.LNORM_OK) return error.NegativeEpsWasTaken;
    try out.print("refused: {s} (status {d})\n", .{ c.lnorm_status_text(status), status });
    try out.print("lnorm {s}, {s}\n", .{ c.lnorm_version(), c.lnorm_isa() });
    try out.flush();
}
