/* SPDX-License-Identifier: MIT */
/*
 * advice.c - madvise(2), by name.
 *
 * Whether the running kernel has an advice is asked of the kernel, at the time
 * of the call: numbers are only ever added, and a distribution may backport or
 * leave out any of them.
 */
#define _GNU_SOURCE
#include "memfast.h"

#include <errno.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

/* Newer than Debian 12's headers; the same number on every architecture. */
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif
#ifndef MADV_GUARD_REMOVE
#define MADV_GUARD_REMOVE 103
#endif

#define DONTFORK_REFUSAL                                                                         \
	"a view of this memory in a forked child would end in SIGSEGV; let the child close its " \
	"handle"
#define GUARD_REFUSAL \
	"a view of the guarded pages would end in SIGSEGV; leave a gap in your own layout instead"

/* The order in which they are listed to the user. MADV_HWPOISON and _SOFT_OFFLINE break memory. */
static const struct mf_advice ADVICE[] = {
	{"normal", MADV_NORMAL, MF_ADVICE_FREE, "2.4", NULL},
	{"random", MADV_RANDOM, MF_ADVICE_FREE, "2.4", NULL},
	{"sequential", MADV_SEQUENTIAL, MF_ADVICE_FREE, "2.4", NULL},
	{"willneed", MADV_WILLNEED, MF_ADVICE_FREE, "2.4", NULL},
	{"dontneed", MADV_DONTNEED, MF_ADVICE_WHOLE_PAGES, "2.4", NULL},
	{"free", MADV_FREE, MF_ADVICE_WHOLE_PAGES, "4.5", NULL},
	{"remove", MADV_REMOVE, MF_ADVICE_RESERVED, "2.6.16", NULL},
	{"dontfork", MADV_DONTFORK, MF_ADVICE_REFUSED, "2.6.16", DONTFORK_REFUSAL},
	{"dofork", MADV_DOFORK, MF_ADVICE_FREE, "2.6.16", NULL},
	{"mergeable", MADV_MERGEABLE, MF_ADVICE_FREE, "2.6.32 with CONFIG_KSM", NULL},
	{"unmergeable", MADV_UNMERGEABLE, MF_ADVICE_FREE, "2.6.32 with CONFIG_KSM", NULL},
	{"hugepage", MADV_HUGEPAGE, MF_ADVICE_FREE, "2.6.38 with CONFIG_TRANSPARENT_HUGEPAGE",
	 NULL},
	{"nohugepage", MADV_NOHUGEPAGE, MF_ADVICE_FREE, "2.6.38 with CONFIG_TRANSPARENT_HUGEPAGE",
	 NULL},
	{"collapse", MADV_COLLAPSE, MF_ADVICE_FREE, "6.1 with CONFIG_TRANSPARENT_HUGEPAGE", NULL},
	{"dontdump", MADV_DONTDUMP, MF_ADVICE_FREE, "3.4", NULL},
	{"dodump", MADV_DODUMP, MF_ADVICE_FREE, "3.4", NULL},
	{"wipeonfork", MADV_WIPEONFORK, MF_ADVICE_WHOLE_PAGES, "4.14", NULL},
	{"keeponfork", MADV_KEEPONFORK, MF_ADVICE_FREE, "4.14", NULL},
	{"cold", MADV_COLD, MF_ADVICE_FREE, "5.4", NULL},
	{"pageout", MADV_PAGEOUT, MF_ADVICE_FREE, "5.4", NULL},
	{"populate_read", MADV_POPULATE_READ, MF_ADVICE_FREE, "5.14", NULL},
	{"populate_write", MADV_POPULATE_WRITE, MF_ADVICE_FREE, "5.14", NULL},
	{"guard_install", MADV_GUARD_INSTALL, MF_ADVICE_REFUSED, "6.13", GUARD_REFUSAL},
	{"guard_remove", MADV_GUARD_REMOVE, MF_ADVICE_FREE, "6.13", NULL},
};

/* The advice of that number in the list, or NULL behind the last. */
const struct mf_advice *mf_advice_at(unsigned index)
{
	return index < sizeof ADVICE / sizeof ADVICE[0] ? &ADVICE[index] : NULL;
}

static void *page_of(void *address)
{
	return (void *)((uintptr_t)address & ~(uintptr_t)(sysconf(_SC_PAGESIZE) - 1));
}

/*
 * 1 if the running kernel has the advice, 0 if not. Asked for no bytes at all:
 * the kernel checks the number, sees that there is nothing to do and returns.
 */
int mf_advice_known(void *address, int number)
{
	return madvise(page_of(address), 0, number) == 0;
}

/* Advise on some bytes, from the page that they begin in. */
int mf_advice_give(void *address, size_t size, int number)
{
	void *const from = page_of(address);

	size += (size_t)((char *)address - (char *)from);
	return madvise(from, size, number) == 0 ? 0 : -errno;
}
