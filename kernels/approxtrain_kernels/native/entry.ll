; What XLA calls: the entry of a typed FFI handler, in LLVM's assembly because there is no C compiler where this runs.
;
; @handler takes XLA's call frame (XLA_FFI_CallFrame of xla/ffi/api/c_api.h, which jax installs) with two operands a and
; b and the results, which are the kernel's own and its workspace. The slices of the work are open to whoever comes
; first: the thread that XLA called, and tasks that it leaves with XLA's thread pool. So nothing waits for a task that
; has not begun, and a pool that is busy or missing costs speed, not life. A task that begins after all slices are taken,
; perhaps when the call is long over, touches nothing but @job's counters: the last to leave frees it.
;
; The frame is read at fixed offsets. `header` has held them against jaxlib's header; here the size that each structure
; says of itself is compared before a field behind it is read, and another size is an error in words.
;
; `ffi` fills in what stands behind dollar signs: the number of slices, the version of the interface, the sizes of its
; structures, and where in XLA_FFI_Api three functions stand, in bytes. @slice and @combine are generated for each kernel.

%job = type { i64, i64, i64, ptr, ptr, ptr, ptr } ; slices taken, slices done, users, a, b, result, workspace

declare void @slice(i64, ptr, ptr, ptr, ptr)
declare void @combine(ptr, ptr)
declare ptr @malloc(i64)
declare void @free(ptr)
declare i32 @sched_yield()
declare void @abort()

@layout = private constant [179 x i8] c"approxtrain: XLA calls with a frame that this code was not compiled for. Set APPROXTRAIN_NATIVE=0 to compute with XLA's own convolutions, and please report the version of jaxlib.\00"

define ptr @handler(ptr %frame) {
entry:
  %extension.at = getelementptr i8, ptr %frame, i64 8
  %extension = load ptr, ptr %extension.at
  %plain = icmp eq ptr %extension, null
  br i1 %plain, label %execute, label %extended

extended: ; at registration XLA asks for the version of its interface that was meant
  %type.at = getelementptr i8, ptr %extension, i64 8
  %type = load i32, ptr %type.at
  %asked = icmp eq i32 %type, 1
  br i1 %asked, label %metadata, label %execute

metadata:
  %metadata.at = getelementptr i8, ptr %extension, i64 24
  %about = load ptr, ptr %metadata.at
  %about.fits = call i1 @is(ptr %about, i64 0, i64 $METADATA_SIZE)
  %major = select i1 %about.fits, i32 $MAJOR, i32 -1 ; a version that XLA refuses
  %major.at = getelementptr i8, ptr %about, i64 24
  store i32 %major, ptr %major.at
  %minor.at = getelementptr i8, ptr %about, i64 28
  store i32 $MINOR, ptr %minor.at
  %traits.at = getelementptr i8, ptr %about, i64 32
  store i32 0, ptr %traits.at
  ret ptr null

execute:
  %fits = call i1 @frame.fits(ptr %frame)
  br i1 %fits, label %start, label %refuse

refuse:
  %error = call ptr @refusal(ptr %frame)
  ret ptr %error

start:
  %job = call ptr @malloc(i64 56)
  %a = call ptr @buffer(ptr %frame, i64 72, i64 0)
  %b = call ptr @buffer(ptr %frame, i64 72, i64 8)
  %result = call ptr @buffer(ptr %frame, i64 112, i64 0)
  %workspace = call ptr @buffer(ptr %frame, i64 112, i64 8)
  %new = insertvalue %job zeroinitializer, i64 1, 2
  %new.a = insertvalue %job %new, ptr %a, 3
  %new.b = insertvalue %job %new.a, ptr %b, 4
  %new.result = insertvalue %job %new.b, ptr %result, 5
  %new.all = insertvalue %job %new.result, ptr %workspace, 6
  store %job %new.all, ptr %job
  br label %invite

invite: ; a task for each further slice
  %number = phi i64 [ 1, %start ], [ %number.next, %invited ]
  %enough = icmp sge i64 %number, $SLICES
  br i1 %enough, label %begin, label %another

another:
  %number.next = add i64 %number, 1
  %refused = call i1 @schedule(ptr %frame, ptr %job)
  br i1 %refused, label %begin, label %invited

invited:
  br label %invite

begin:
  call void @work(ptr %job)
  %done.at = getelementptr %job, ptr %job, i64 0, i32 1
  br label %wait

wait: ; for slices that others are at
  %done = load atomic i64, ptr %done.at acquire, align 8
  %over = icmp eq i64 %done, $SLICES
  br i1 %over, label %finish, label %yield

yield:
  %ignored = call i32 @sched_yield()
  br label %wait

finish:
  call void @combine(ptr %result, ptr %workspace)
  call void @leave(ptr %job)
  ret ptr null
}

; Whether the frame, the lists in it, what they list and the functions are as they are read.
define internal i1 @frame.fits(ptr %frame) {
entry:
  %frame.size = call i1 @is(ptr %frame, i64 0, i64 $CALLFRAME_SIZE)
  br i1 %frame.size, label %lists, label %no

lists:
  %api.at = getelementptr i8, ptr %frame, i64 16
  %api = load ptr, ptr %api.at
  %api.size = call i1 @is(ptr %api, i64 0, i64 $API_SIZE)
  %operands.size = call i1 @is(ptr %frame, i64 40, i64 $ARGS_SIZE)
  %operands.count = call i1 @is(ptr %frame, i64 56, i64 2)
  %results.size = call i1 @is(ptr %frame, i64 80, i64 $RETS_SIZE)
  %results.count = call i1 @is(ptr %frame, i64 96, i64 2)
  %operands = and i1 %operands.size, %operands.count
  %results = and i1 %results.size, %results.count
  %lists.fit = and i1 %operands, %results
  %all.fit = and i1 %lists.fit, %api.size
  br i1 %all.fit, label %buffers, label %no

buffers:
  %a = call i1 @buffer.fits(ptr %frame, i64 72, i64 0)
  %b = call i1 @buffer.fits(ptr %frame, i64 72, i64 8)
  %result = call i1 @buffer.fits(ptr %frame, i64 112, i64 0)
  %workspace = call i1 @buffer.fits(ptr %frame, i64 112, i64 8)
  %read = and i1 %a, %b
  %written = and i1 %result, %workspace
  %fit = and i1 %read, %written
  ret i1 %fit

no:
  ret i1 false
}

; Whether the 64-bit number at an offset is this one.
define internal i1 @is(ptr %structure, i64 %offset, i64 %expected) {
  %at = getelementptr i8, ptr %structure, i64 %offset
  %value = load i64, ptr %at
  %same = icmp eq i64 %value, %expected
  ret i1 %same
}

; Whether a buffer has the size that is known, and holds float32 (XLA_FFI_DataType_F32 is 11).
define internal i1 @buffer.fits(ptr %frame, i64 %list, i64 %which) {
  %buffer = call ptr @listed(ptr %frame, i64 %list, i64 %which)
  %size.fits = call i1 @is(ptr %buffer, i64 0, i64 $BUFFER_SIZE)
  %type.at = getelementptr i8, ptr %buffer, i64 16
  %type = load i32, ptr %type.at
  %type.fits = icmp eq i32 %type, 11
  %fits = and i1 %size.fits, %type.fits
  ret i1 %fits
}

; The error of XLA's that a call returns for a frame that does not fit. Without one there is no way to say it: abort.
define internal ptr @refusal(ptr %frame) {
entry:
  %arguments = alloca { i64, ptr, ptr, i32 }
  store { i64, ptr, ptr, i32 } { i64 $ERROR_CREATE_ARGS_SIZE, ptr null, ptr @layout, i32 9 }, ptr %arguments
  %api.at = getelementptr i8, ptr %frame, i64 16
  %api = load ptr, ptr %api.at
  %function.at = getelementptr i8, ptr %api, i64 $ERROR_CREATE
  %function = load ptr, ptr %function.at
  %missing = icmp eq ptr %function, null
  br i1 %missing, label %end, label %create

create:
  %error = call ptr %function(ptr %arguments)
  %silent = icmp eq ptr %error, null
  br i1 %silent, label %end, label %say

say:
  ret ptr %error

end:
  call void @abort()
  unreachable
}

; Operand or result `%which`/8 of the list at offset %list of the frame.
define internal ptr @listed(ptr %frame, i64 %list, i64 %which) {
  %list.at = getelementptr i8, ptr %frame, i64 %list
  %buffers = load ptr, ptr %list.at
  %buffer.at = getelementptr i8, ptr %buffers, i64 %which
  %buffer = load ptr, ptr %buffer.at
  ret ptr %buffer
}

; The data of an operand or result.
define internal ptr @buffer(ptr %frame, i64 %list, i64 %which) {
  %buffer = call ptr @listed(ptr %frame, i64 %list, i64 %which)
  %data.at = getelementptr i8, ptr %buffer, i64 24
  %data = load ptr, ptr %data.at
  ret ptr %data
}

; Leaves a task with XLA's thread pool; true where it takes none.
define internal i1 @schedule(ptr %frame, ptr %job) {
entry:
  %arguments = alloca { i64, ptr, ptr, ptr, ptr }
  %context.at = getelementptr i8, ptr %frame, i64 24
  %context = load ptr, ptr %context.at
  %given = insertvalue { i64, ptr, ptr, ptr, ptr } { i64 $THREADPOOL_SCHEDULE_ARGS_SIZE, ptr null, ptr null, ptr @task, ptr null }, ptr %context, 2
  %given.all = insertvalue { i64, ptr, ptr, ptr, ptr } %given, ptr %job, 4
  store { i64, ptr, ptr, ptr, ptr } %given.all, ptr %arguments
  %users.at = getelementptr %job, ptr %job, i64 0, i32 2
  %before = atomicrmw add ptr %users.at, i64 1 acq_rel
  %api.at = getelementptr i8, ptr %frame, i64 16
  %api = load ptr, ptr %api.at
  %function.at = getelementptr i8, ptr %api, i64 $THREADPOOL_SCHEDULE
  %function = load ptr, ptr %function.at
  %error = call ptr %function(ptr %arguments)
  %fine = icmp eq ptr %error, null
  br i1 %fine, label %taken, label %refused

taken:
  ret i1 false

refused:
  %destroyed = alloca { i64, ptr, ptr }
  %failure = insertvalue { i64, ptr, ptr } { i64 $ERROR_DESTROY_ARGS_SIZE, ptr null, ptr null }, ptr %error, 2
  store { i64, ptr, ptr } %failure, ptr %destroyed
  %destroy.at = getelementptr i8, ptr %api, i64 $ERROR_DESTROY
  %destroy = load ptr, ptr %destroy.at
  call void %destroy(ptr %destroyed)
  call void @leave(ptr %job)
  ret i1 true
}

define internal void @task(ptr %job) {
  call void @work(ptr %job)
  call void @leave(ptr %job)
  ret void
}

define internal void @work(ptr %job) {
entry:
  br label %next

next:
  %number = atomicrmw add ptr %job, i64 1 acq_rel
  %none = icmp sge i64 %number, $SLICES
  br i1 %none, label %out, label %do

do:
  %a.at = getelementptr %job, ptr %job, i64 0, i32 3
  %a = load ptr, ptr %a.at
  %b.at = getelementptr %job, ptr %job, i64 0, i32 4
  %b = load ptr, ptr %b.at
  %result.at = getelementptr %job, ptr %job, i64 0, i32 5
  %result = load ptr, ptr %result.at
  %workspace.at = getelementptr %job, ptr %job, i64 0, i32 6
  %workspace = load ptr, ptr %workspace.at
  call void @slice(i64 %number, ptr %a, ptr %b, ptr %result, ptr %workspace)
  %done.at = getelementptr %job, ptr %job, i64 0, i32 1
  %before = atomicrmw add ptr %done.at, i64 1 acq_rel
  br label %next

out:
  ret void
}

define internal void @leave(ptr %job) {
entry:
  %users.at = getelementptr %job, ptr %job, i64 0, i32 2
  %before = atomicrmw sub ptr %users.at, i64 1 acq_rel
  %last = icmp eq i64 %before, 1
  br i1 %last, label %end, label %out

end:
  call void @free(ptr %job)
  br label %out

out:
  ret void
}
