/* SPDX-License-Identifier: MIT */
/*
 * atomics.h - the only place that spells an atomic operation.
 *
 * Shared words are plain integers in layout.h; they are reached only through
 * these functions, so that a load happens exactly once (a compiler may not
 * split or repeat it) and its order is visible at the call. Every ordered call
 * ends in a SYNC label; docs/memory-model.md has a section for each label.
 */
#ifndef MEMFAST_ATOMICS_H
#define MEMFAST_ATOMICS_H

#include <stdint.h>

_Static_assert(__atomic_always_lock_free(8, 0), "shared 64-bit words must be lock-free");

static inline uint64_t mf_load_relaxed(const uint64_t *word)
{
	return __atomic_load_n(word, __ATOMIC_RELAXED);
}

static inline uint64_t mf_load_acquire(const uint64_t *word)
{
	return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static inline void mf_store_relaxed(uint64_t *word, uint64_t value)
{
	__atomic_store_n(word, value, __ATOMIC_RELAXED);
}

static inline void mf_store_release(uint64_t *word, uint64_t value)
{
	__atomic_store_n(word, value, __ATOMIC_RELEASE);
}

/* Replace *word by `desired` if it still holds `expected`; returns whether it did. */
static inline int mf_swap_if_acq_rel(uint64_t *word, uint64_t expected, uint64_t desired)
{
	return __atomic_compare_exchange_n(word, &expected, desired, 0, __ATOMIC_ACQ_REL,
					   __ATOMIC_ACQUIRE);
}

static inline uint32_t mf_load32_relaxed(const uint32_t *word)
{
	return __atomic_load_n(word, __ATOMIC_RELAXED);
}

static inline void mf_store32_relaxed(uint32_t *word, uint32_t value)
{
	__atomic_store_n(word, value, __ATOMIC_RELAXED);
}

static inline int mf_swap32_if_acq_rel(uint32_t *word, uint32_t expected, uint32_t desired)
{
	return __atomic_compare_exchange_n(word, &expected, desired, 0, __ATOMIC_ACQ_REL,
					   __ATOMIC_ACQUIRE);
}

/* Returns what the word held before. */
static inline uint64_t mf_add_relaxed(uint64_t *word, uint64_t amount)
{
	return __atomic_fetch_add(word, amount, __ATOMIC_RELAXED);
}

/* Orders an earlier store before a later load; the only order that x86 does not give for free. */
static inline void mf_fence_full(void)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* Keeps the compiler, not the processor, from moving accesses across this line. */
static inline void mf_fence_compiler(void)
{
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

/* Tell the core that this is a spin loop: less power, no memory-order penalty on leaving it. */
static inline void mf_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("isb" ::: "memory");
#else
	mf_fence_compiler();
#endif
}

#endif
