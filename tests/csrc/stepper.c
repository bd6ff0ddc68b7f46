/* SPDX-License-Identifier: MIT */
/*
 * stepper.c - kill a process before the n-th instruction of a function.
 *
 * The subject is a child that asked to be traced (PTRACE_TRACEME) and stopped
 * itself. It runs to a breakpoint at the function's first instruction, then
 * one instruction at a time until the function returns to its caller; before
 * instruction `boundary` it gets SIGKILL. A system call counts as one
 * instruction. See ptrace(2).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/user.h>
#include <sys/wait.h>

#if !defined(__x86_64__)
#error "the step-killer knows the registers of x86-64 only"
#endif

enum { BREAKPOINT = 0xcc };

static int wait_for_trap(pid_t pid)
{
	int status;

	for (;;) {
		if (waitpid(pid, &status, 0) != pid)
			return -errno;
		if (!WIFSTOPPED(status))
			return -ESRCH; /* it ended by itself */
		if (WSTOPSIG(status) == SIGTRAP)
			return 0;
		if (ptrace(PTRACE_CONT, pid, 0, (long)WSTOPSIG(status)) != 0)
			return -errno;
	}
}

static int run_to(pid_t pid, unsigned long entry)
{
	struct user_regs_struct registers;
	long text;
	int status;

	errno = 0;
	text = ptrace(PTRACE_PEEKTEXT, pid, entry, 0);
	if (errno != 0)
		return -errno;
	if (ptrace(PTRACE_POKETEXT, pid, entry, (text & ~0xffL) | BREAKPOINT) != 0 ||
	    ptrace(PTRACE_CONT, pid, 0, 0) != 0)
		return -errno;
	status = wait_for_trap(pid);
	if (status != 0)
		return status;
	if (ptrace(PTRACE_POKETEXT, pid, entry, text) != 0 ||
	    ptrace(PTRACE_GETREGS, pid, 0, &registers) != 0)
		return -errno;
	registers.rip = entry;
	return ptrace(PTRACE_SETREGS, pid, 0, &registers) == 0 ? 0 : -errno;
}

/* Where instructions are counted one by one; calls out of it count as one. */
struct stepper_range {
	unsigned long start;
	unsigned long end; /* 0: count everywhere */
};

static int outside(const struct stepper_range *range, unsigned long address)
{
	return range->end != 0 && (address < range->start || address >= range->end);
}

/* One instruction, or one whole call out of the range. */
static int step(pid_t pid, const struct stepper_range *range, unsigned long caller,
		struct user_regs_struct *registers)
{
	int status;

	if (ptrace(PTRACE_SINGLESTEP, pid, 0, 0) != 0)
		return -errno;
	status = wait_for_trap(pid);
	if (status == 0 && ptrace(PTRACE_GETREGS, pid, 0, registers) != 0)
		status = -errno;
	if (status != 0 || registers->rip == caller || !outside(range, registers->rip))
		return status;
	errno = 0;
	status = run_to(pid, (unsigned long)ptrace(PTRACE_PEEKDATA, pid, registers->rsp, 0));
	if (status == 0 && ptrace(PTRACE_GETREGS, pid, 0, registers) != 0)
		status = -errno;
	return status;
}

static int step_until(pid_t pid, const struct stepper_range *range, unsigned long boundary,
		      unsigned long *steps_ret)
{
	struct user_regs_struct registers;
	unsigned long caller, stack;
	int status;

	if (ptrace(PTRACE_GETREGS, pid, 0, &registers) != 0)
		return -errno;
	stack = registers.rsp;
	errno = 0;
	caller = (unsigned long)ptrace(PTRACE_PEEKDATA, pid, stack, 0);
	if (errno != 0)
		return -errno;
	while (*steps_ret < boundary) {
		status = step(pid, range, caller, &registers);
		if (status != 0)
			return status;
		++*steps_ret;
		if (registers.rip == caller && registers.rsp > stack)
			return 0;
	}
	return 1;
}

/*
 * Returns 1 if the child was killed before instruction `boundary`, 0 if the
 * function returned first (after `steps_ret` instructions; the child is killed
 * all the same), or a negative errno. The child is reaped in every case.
 */
int stepper_kill(pid_t pid, unsigned long entry, const struct stepper_range *range,
		 unsigned long boundary, unsigned long *steps_ret)
{
	int state, status = -ESRCH;

	*steps_ret = 0;
	if (waitpid(pid, &state, 0) != pid || !WIFSTOPPED(state))
		return status;
	if (ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_EXITKILL) != 0)
		return -errno;
	status = run_to(pid, entry);
	if (status == 0)
		status = step_until(pid, range, boundary, steps_ret);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return status;
}
