! lnorm from Fortran, by the header alone: what is used of it is declared with bind(c). Fortran's first index runs
! fastest, so that rows x cols there is (cols, rows) here: columns are normalized.
!
!     gfortran examples/fortran/layer_norm.f90 -LPREFIX/lib -l:liblnorm.a -lm && ./a.out
!
! with PREFIX where lnorm is installed.
module lnorm
    use, intrinsic :: iso_c_binding
    implicit none

    integer(c_int), parameter :: LNORM_OK = 0
    integer(c_int32_t), parameter :: LNORM_RMS_NORM = 1

    ! 0 means the default; but struct_size must be c_sizeof of it.
    type, bind(c) :: lnorm_problem
        integer(c_size_t) :: struct_size = 0
        integer(c_int32_t) :: operation = 0
        integer(c_int32_t) :: x_type = 0
        integer(c_int32_t) :: y_type = 0
        integer(c_int32_t) :: param_type = 0
        integer(c_int32_t) :: flags = 0
        integer(c_int32_t) :: reserved = 0
        integer(c_int64_t) :: outer = 0
        integer(c_int64_t) :: norm = 0
        integer(c_int64_t) :: inner = 0
        integer(c_int64_t) :: x_stride = 0
        integer(c_int64_t) :: y_stride = 0
        integer(c_int64_t) :: dy_stride = 0
        integer(c_int64_t) :: dx_stride = 0
        real(c_double) :: eps = 0
        type(c_funptr) :: parallel_for = c_null_funptr
        type(c_ptr) :: parallel_context = c_null_ptr
        integer(c_int64_t) :: x_norm_stride = 0
        integer(c_int64_t) :: y_norm_stride = 0
        integer(c_int64_t) :: dy_norm_stride = 0
        integer(c_int64_t) :: dx_norm_stride = 0
        integer(c_int64_t) :: param_rows = 0
        integer(c_int64_t) :: param_repeat = 0
        integer(c_int64_t) :: param_run = 0
        integer(c_int64_t) :: residual_rows = 0
        integer(c_int64_t) :: residual_stride = 0
        integer(c_int64_t) :: total_stride = 0
    end type lnorm_problem

    ! An argument that is optional and not given is NULL.
    interface
        integer(c_int) function lnorm_forward_f32(rows, cols, x, gamma, beta, eps, y, mean, rstd) bind(c)
            import :: c_int, c_size_t, c_float, c_double
            integer(c_size_t), value :: rows, cols
            real(c_float), intent(in) :: x(*)
            real(c_float), intent(in), optional :: gamma(*), beta(*)
            real(c_double), value :: eps
            real(c_float), intent(out) :: y(*)
            real(c_float), intent(out), optional :: mean(*), rstd(*)
        end function lnorm_forward_f32

        integer(c_int) function lnorm_backward_f32( &
            rows, cols, dy, x, mean, rstd, gamma, dx, dgamma, dbeta, workspace, workspace_size) bind(c)
            import :: c_int, c_size_t, c_float
            integer(c_size_t), value :: rows, cols, workspace_size
            real(c_float), intent(in) :: dy(*), x(*), mean(*), rstd(*)
            real(c_float), intent(in), optional :: gamma(*)
            real(c_float), intent(out), optional :: dx(*), dgamma(*), dbeta(*)
            real(c_float), intent(out), optional :: workspace(*)
        end function lnorm_backward_f32

        integer(c_size_t) function lnorm_backward_workspace_f32(rows, cols) bind(c)
            import :: c_size_t
            integer(c_size_t), value :: rows, cols
        end function lnorm_backward_workspace_f32

        integer(c_int) function lnorm_forward(problem, x, gamma, beta, y, mean, rstd) bind(c)
            import :: c_int, c_ptr, lnorm_problem
            type(lnorm_problem), intent(in) :: problem
            type(c_ptr), value :: x, gamma, beta, y, mean, rstd
        end function lnorm_forward

        type(c_ptr) function lnorm_status_text(status) bind(c)
            import :: c_int, c_ptr
            integer(c_int), value :: status
        end function lnorm_status_text

        type(c_ptr) function lnorm_version() bind(c)
            import :: c_ptr
        end function lnorm_version

        type(c_ptr) function lnorm_isa() bind(c)
            import :: c_ptr
        end function lnorm_isa

        integer(c_size_t) function strlen(text) bind(c)
            import :: c_size_t, c_ptr
            type(c_ptr), value :: text
        end function strlen
    end interface

contains

    ! A text of the library's.
    function text(of)
        type(c_ptr), intent(in) :: of
        character(:), allocatable :: text
        character(kind=c_char), pointer :: letters(:)
        integer :: i

        text = ""
        if (.not. c_associated(of)) return
        call c_f_pointer(of, letters, [strlen(of)])
        do i = 1, size(letters)
            text = text // letters(i)
        end do
    end function text

end module lnorm

program layer_norm
    use lnorm
    implicit none

    ! 64 rows: these two, again and again.
    integer(c_size_t), parameter :: rows = 64, cols = 4
    real(c_float), parameter :: two_of_x(8) = [1.0, 2.0, 3.0, 4.0, 10.0, 10.0, 10.0, 50.0]
    real(c_float), parameter :: two_of_dy(8) = [0.125, 0.03125, 0.0625, 0.09375, 0.03125, 0.0625, 0.09375, 0.125]
    real(c_float), target :: x(cols, rows) = reshape(two_of_x, [cols, rows], pad=two_of_x)
    real(c_float) :: dy(cols, rows) = reshape(two_of_dy, [cols, rows], pad=two_of_dy)
    real(c_float), target :: gamma(cols) = [1.0, 1.0, 2.0, 2.0]
    real(c_float) :: beta(cols) = [0.0, 0.0, 0.0, 1.0]
    real(c_float), target :: y(cols, rows)
    real(c_float) :: mean(rows), rstd(rows), dx(cols, rows), dgamma(cols), dbeta(cols)
    real(c_float), allocatable :: workspace(:)
    integer(c_size_t) :: workspace_size
    integer(c_int) :: status
    type(lnorm_problem) :: problem

    call check(lnorm_forward_f32(rows, cols, x, gamma, beta, 1d-5, y, mean, rstd))
    call print_rows("y", y)

    workspace_size = lnorm_backward_workspace_f32(rows, cols)
    allocate (workspace(workspace_size / c_sizeof(1.0_c_float)))
    call check(lnorm_backward_f32(rows, cols, dy, x, mean, rstd, gamma, dx, dgamma, dbeta, workspace, workspace_size))
    call print_rows("dx", dx)
    call print_rows("dgamma", reshape(dgamma, [4, 1]))
    call print_rows("dbeta", reshape(dbeta, [4, 1]))

    ! By the general form, which knows other operations, element types, strides and threads.
    problem%struct_size = c_sizeof(problem)
    problem%operation = LNORM_RMS_NORM
    problem%outer = rows
    problem%norm = cols
    problem%eps = 1d-5
    call check(lnorm_forward(problem, c_loc(x), c_loc(gamma), c_null_ptr, c_loc(y), c_null_ptr, c_null_ptr))
    call print_rows("RMS norm", y)

    status = lnorm_forward_f32(rows, cols, x, gamma, beta, -1d0, y)
    if (status == LNORM_OK) error stop "a negative eps was taken"
    print "(3a, i0, a)", "refused: ", text(lnorm_status_text(status)), " (status ", status, ")"
    print "(4a)", "lnorm ", text(lnorm_version()), ", ", text(lnorm_isa())

contains

    subroutine check(status)
        integer(c_int), intent(in) :: status

        if (status /= LNORM_OK) error stop text(lnorm_status_text(status))
    end subroutine check

    ! The first two rows.
    subroutine print_rows(label, values)
        character(*), intent(in) :: label
        real(c_float), intent(in) :: values(:, :)
        integer :: i

        do i = 1, min(size(values, 2), 2)
            print "(4(f9.5, 1x), 1x, a)", values(:, i), label
        end do
    end subroutine print_rows

end program layer_norm
