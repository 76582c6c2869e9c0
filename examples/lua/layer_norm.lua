-- lnorm from LuaJIT, whose ffi reads lnorm.h itself.
--
--     luajit examples/lua/layer_norm.lua PREFIX
--
-- with PREFIX where lnorm is installed.
local ffi = require("ffi")

local prefix = assert(arg[1], "usage: luajit layer_norm.lua PREFIX")
local file = assert(io.open(prefix .. "/include/lnorm.h"))
local header = file:read("*a")
file:close()

-- The declarations, without what is the preprocessor's: #defines, which may go on after a backslash, and LNORM_API.
local declarations = header:match("\n(typedef enum lnorm_status.*)\n#ifdef __cplusplus")
ffi.cdef((declarations:gsub("\\\n", " "):gsub("\n#[^\n]*", ""):gsub("LNORM_API ", "")))
local lnorm = ffi.load(prefix .. "/lib/liblnorm.so")

local floats = ffi.typeof("float[?]")

-- The elements, so many times over.
local function array(times, elements)
    local result = floats(times * #elements)
    for i = 0, times * #elements - 1 do
        result[i] = elements[i % #elements + 1]
    end
    return result
end

local function length(values)
    return ffi.sizeof(values) / ffi.sizeof("float")
end

-- NULL, of which Lua makes a false pointer and not nil.
local function text(of)
    return of ~= nil and ffi.string(of) or ""
end

local function check(status)
    if status ~= ffi.C.LNORM_OK then
        error(("%s (status %d)"):format(text(lnorm.lnorm_status_text(status)), tonumber(status)), 0)
    end
end

-- How many rows x has, and of how many elements.
local function shape(x, gamma)
    local cols = length(gamma)
    local rows = length(x) / cols
    assert(rows % 1 == 0, "x must be rows that are as long as gamma")
    return rows, cols
end

local function forward(x, gamma, beta, eps)
    local rows, cols = shape(x, gamma)
    assert(length(beta) == cols, "beta must be as long as gamma")
    local y, mean, rstd = floats(rows * cols), floats(rows), floats(rows)
    check(lnorm.lnorm_forward_f32(rows, cols, x, gamma, beta, eps, y, mean, rstd))
    return y, mean, rstd
end

local function backward(dy, x, mean, rstd, gamma)
    local rows, cols = shape(x, gamma)
    assert(length(dy) == length(x) and length(mean) == rows and length(rstd) == rows, "dy, mean, rstd must be x's")
    local size = lnorm.lnorm_backward_workspace_f32(rows, cols)
    local workspace = floats(size / ffi.sizeof("float"))
    local dx, dgamma, dbeta = floats(rows * cols), floats(cols), floats(cols)
    check(lnorm.lnorm_backward_f32(rows, cols, dy, x, mean, rstd, gamma, dx, dgamma, dbeta, workspace, size))
    return dx, dgamma, dbeta
end

-- By the general form, which knows other operations, element types, strides and threads.
local function rms_norm(x, gamma, eps)
    local problem = ffi.new("lnorm_problem", {
        struct_size = ffi.sizeof("lnorm_problem"),
        operation = ffi.C.LNORM_RMS_NORM,
        eps = eps,
    })
    problem.outer, problem.norm = shape(x, gamma)
    local y = floats(length(x))
    check(lnorm.lnorm_forward(problem, x, gamma, nil, y, nil, nil))
    return y
end

-- The first two rows.
local function print_rows(label, values)
    for i = 0, math.min(length(values), 8) - 1, 4 do
        print(("%9.5f %9.5f %9.5f %9.5f  %s"):format(values[i], values[i + 1], values[i + 2], values[i + 3], label))
    end
end

-- 64 rows: these two, again and again.
local x = array(32, { 1, 2, 3, 4, 10, 10, 10, 50 })
local dy = array(32, { 0.125, 0.03125, 0.0625, 0.09375, 0.03125, 0.0625, 0.09375, 0.125 })
local gamma, beta = array(1, { 1, 1, 2, 2 }), array(1, { 0, 0, 0, 1 })

local y, mean, rstd = forward(x, gamma, beta, 1e-5)
print_rows("y", y)
local dx, dgamma, dbeta = backward(dy, x, mean, rstd, gamma)
print_rows("dx", dx)
print_rows("dgamma", dgamma)
print_rows("dbeta", dbeta)
print_rows("RMS norm", rms_norm(x, gamma, 1e-5))

local taken, message = pcall(forward, x, gamma, beta, -1)
assert(not taken, "a negative eps was taken")
print("refused: " .. message)
print(("lnorm %s, %s"):format(text(lnorm.lnorm_version()), text(lnorm.lnorm_isa())))
