; What XLA calls: the entry of a typed FFI handler, in LLVM's assembly because there is no C compiler where this runs.
;
; @handler takes XLA's call frame (XLA_FFI_CallFrame of xla/ffi/api/c_api.h, which jax installs) with the operands x and
; dy and the results dw and workspace. The parts of the work are open to whoever comes first: the thread that XLA
; called, and tasks that it leaves with XLA's thread pool. So nothing waits for a task that has not begun, and a pool that is
; busy or missing costs speed, not life. A task that begins after all parts are taken, perhaps when the call is long
; over, touches nothing but @job's counters: the last to leave frees it.
;
; `engine` fills in what stands behind dollar signs: the number of parts, the version of the interface, and where in
; XLA_FFI_Api two functions stand, in bytes. @part and @combine are generated for each shape (`generate`).

%job = type { i64, i64, i64, ptr, ptr, ptr, ptr } ; parts taken, parts done, users, x, dy, dw, workspace

declare void @part(i64, ptr, ptr, ptr, ptr)
declare void @combine(ptr, ptr)
declare ptr @malloc(i64)
declare void @free(ptr)
declare i32 @sched_yield()

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
  %major.at = getelementptr i8, ptr %about, i64 24
  store i32 $MAJOR, ptr %major.at
  %minor.at = getelementptr i8, ptr %about, i64 28
  store i32 $MINOR, ptr %minor.at
  %traits.at = getelementptr i8, ptr %about, i64 32
  store i32 0, ptr %traits.at
  ret ptr null

execute:
  %job = call ptr @malloc(i64 56)
  %x = call ptr @buffer(ptr %frame, i64 72, i64 0)
  %dy = call ptr @buffer(ptr %frame, i64 72, i64 8)
  %dw = call ptr @buffer(ptr %frame, i64 112, i64 0)
  %workspace = call ptr @buffer(ptr %frame, i64 112, i64 8)
  %new = insertvalue %job zeroinitializer, i64 1, 2
  %new.x = insertvalue %job %new, ptr %x, 3
  %new.dy = insertvalue %job %new.x, ptr %dy, 4
  %new.dw = insertvalue %job %new.dy, ptr %dw, 5
  %new.all = insertvalue %job %new.dw, ptr %workspace, 6
  store %job %new.all, ptr %job
  br label %invite

invite: ; a task for each further part
  %number = phi i64 [ 1, %execute ], [ %number.next, %invited ]
  %enough = icmp sge i64 %number, $PARTS
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

wait: ; for parts that others are at
  %done = load atomic i64, ptr %done.at acquire, align 8
  %over = icmp eq i64 %done, $PARTS
  br i1 %over, label %finish, label %yield

yield:
  %ignored = call i32 @sched_yield()
  br label %wait

finish:
  call void @combine(ptr %dw, ptr %workspace)
  call void @leave(ptr %job)
  ret ptr null
}

; The data of operand or result `%which`/8 of the list at offset %list of the frame.
define internal ptr @buffer(ptr %frame, i64 %list, i64 %which) {
  %list.at = getelementptr i8, ptr %frame, i64 %list
  %buffers = load ptr, ptr %list.at
  %buffer.at = getelementptr i8, ptr %buffers, i64 %which
  %buffer = load ptr, ptr %buffer.at
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
  %given = insertvalue { i64, ptr, ptr, ptr, ptr } { i64 40, ptr null, ptr null, ptr @task, ptr null }, ptr %context, 2
  %given.all = insertvalue { i64, ptr, ptr, ptr, ptr } %given, ptr %job, 4
  store { i64, ptr, ptr, ptr, ptr } %given.all, ptr %arguments
  %users.at = getelementptr %job, ptr %job, i64 0, i32 2
  %before = atomicrmw add ptr %users.at, i64 1 acq_rel
  %api.at = getelementptr i8, ptr %frame, i64 16
  %api = load ptr, ptr %api.at
  %function.at = getelementptr i8, ptr %api, i64 $SCHEDULE
  %function = load ptr, ptr %function.at
  %error = call ptr %function(ptr %arguments)
  %fine = icmp eq ptr %error, null
  br i1 %fine, label %taken, label %refused

taken:
  ret i1 false

refused:
  %destroyed = alloca { i64, ptr, ptr }
  %failure = insertvalue { i64, ptr, ptr } { i64 24, ptr null, ptr null }, ptr %error, 2
  store { i64, ptr, ptr } %failure, ptr %destroyed
  %destroy.at = getelementptr i8, ptr %api, i64 $DESTROY
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
  %part = atomicrmw add ptr %job, i64 1 acq_rel
  %none = icmp sge i64 %part, $PARTS
  br i1 %none, label %out, label %do

do:
  %x.at = getelementptr %job, ptr %job, i64 0, i32 3
  %x = load ptr, ptr %x.at
  %dy.at = getelementptr %job, ptr %job, i64 0, i32 4
  %dy = load ptr, ptr %dy.at
  %dw.at = getelementptr %job, ptr %job, i64 0, i32 5
  %dw = load ptr, ptr %dw.at
  %workspace.at = getelementptr %job, ptr %job, i64 0, i32 6
  %workspace = load ptr, ptr %workspace.at
  call void @part(i64 %part, ptr %x, ptr %dy, ptr %dw, ptr %workspace)
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
