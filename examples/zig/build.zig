//! lnorm as a package of Zig: its sources, compiled by Zig, and lnorm.h as the module "lnorm".
//!
//!     cd examples/zig && zig build run
//!
//! A project that depends on it names this directory in its build.zig.zon, as .lnorm = .{ .path = "..." }, and says in
//! its build.zig
//!
//!     const lnorm = b.dependency("lnorm", .{ .target = target, .optimize = optimize });
//!     module.addImport("lnorm", lnorm.module("lnorm"));
const std = @import("std");

pub fn build(b: *std.Build) void {
    const target = b.standardTargetOptions(.{});
    const optimize = b.standardOptimizeOption(.{});

    const header = b.addTranslateC(.{
        .root_source_file = b.path("../../include/lnorm.h"),
        .target = target,
        .optimize = optimize,
    });
    const lnorm = header.addModule("lnorm");
    lnorm.addIncludePath(b.path("../../include"));
    lnorm.addCSourceFiles(.{
        .root = b.path("../../src/c"),
        .files = &.{
            "cpu.c",        "dispatch.c", "isa_avx2.c", "isa_avx512.c", "isa_neon.c",
            "isa_scalar.c", "lnorm.c",    "merge.c",    "small.c",
        },
        .flags = &.{ "-std=c11", "-ffp-contract=off", "-fno-math-errno" },
    });

    const example = b.addExecutable(.{
        .name = "layer_norm",
        .root_module = b.createModule(.{
            .root_source_file = b.path("layer_norm.zig"),
            .target = target,
            .optimize = optimize,
            .imports = &.{.{ .name = "lnorm", .module = lnorm }},
        }),
    });
    b.installArtifact(example);
    b.step("run", "Run the example").dependOn(&b.addRunArtifact(example).step);
}
