/* SPDX-License-Identifier: MIT */
/* sysmem.c - the machine's memory by sysinfo(2): no text, no locks, and no page cache either. */
#define _GNU_SOURCE
#include "memfast.h"

#include <errno.h>
#include <sys/sysinfo.h>

/* The kernel counts in units of mem_unit bytes; before 2.3.23 it left that field 0. */
static uint64_t bytes_of(unsigned long count, const struct sysinfo *info)
{
	return (uint64_t)count * (info->mem_unit != 0 ? info->mem_unit : 1);
}

int mf_sysmem_info(struct mf_sysmem *ret)
{
	struct sysinfo info;

	if (sysinfo(&info) != 0)
		return -errno;
	ret->uptime_s = (uint64_t)info.uptime;
	for (int i = 0; i < 3; i++)
		ret->loads[i] = (double)info.loads[i] / (1 << SI_LOAD_SHIFT);
	ret->totalram = bytes_of(info.totalram, &info);
	ret->freeram = bytes_of(info.freeram, &info);
	ret->sharedram = bytes_of(info.sharedram, &info);
	ret->bufferram = bytes_of(info.bufferram, &info);
	ret->totalswap = bytes_of(info.totalswap, &info);
	ret->freeswap = bytes_of(info.freeswap, &info);
	ret->procs = info.procs;
	return 0;
}
