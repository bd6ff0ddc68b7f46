/* SPDX-License-Identifier: MIT */
/*
 * memfast.h - every C function that Python may call.
 *
 * This very file is the cffi cdef (csrc/build_core.py blanks the lines that
 * start with #), so constants are enums and nothing here is inline, atomic or
 * conditional. A function that returns int returns 0 or a negative errno; it
 * never prints. Functions named *_ret come last and are set on success only.
 */
#ifndef MEMFAST_H
#define MEMFAST_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
	MF_LAYOUT_VERSION = 1, /* of the bytes in layout.h */
};

/* ---- process.c: who a process is, and whether it still lives ---- */

enum mf_life {
	MF_LIFE_DEAD = 0,
	MF_LIFE_ALIVE = 1,
	MF_LIFE_UNKNOWN = 2, /* counts as alive */
};

struct mf_namespaces_layout;

uint64_t mf_process_claim(struct mf_namespaces_layout *namespaces);
int mf_process_life(uint64_t own, uint64_t claim);
int mf_process_exists(int64_t pid);
int mf_process_claim_pid(uint64_t claim);
int mf_process_open(uint64_t own, uint64_t claim);

/* ---- wait.c: the wait ladder: spin, then sleep on a futex ---- */

enum {
	MF_WAIT_FIRST_NS = 10 * 1000 * 1000, /* then somebody is asked to watch the peer */
	MF_WAIT_SLICE_NS =
		50 * 1000 * 1000, /* how often a peer that nobody can watch is asked after */
	MF_WAIT_WATCHED_NS = 1000 * 1000 * 1000, /* where an alarm, or nothing at all, can come */
};

struct mf_wait_layout;

/* One waiter's patience; private to its owner. */
struct mf_waiter {
	struct mf_wait_layout *shared; /* where we say that we sleep */
	uint64_t *waits;	       /* shared count of sleeps */
	uint64_t spin_ns;	       /* how long to spin before the next sleep; adapts */
	uint64_t slice_ns;	       /* how long to sleep before asking after the peer */
	const uint32_t *alarm; /* set by watch.c when the peer has died; NULL: nobody watches */
};

uint64_t mf_wait_clock_ns(void);
int mf_wait_register(void);
void mf_wait_init(struct mf_waiter *waiter, struct mf_wait_layout *shared, uint64_t *waits);
int mf_wait_slice(struct mf_waiter *waiter, int (*ready)(const void *), const void *context,
		  uint64_t deadline_ns);
void mf_wait_wake(struct mf_wait_layout *shared);
void mf_wait_pause(void);

/* ---- watch.c: threads that wake sleepers when a process they wait for dies ---- */

struct mf_watch;

/* One process watched for one sleeper; the owner keeps it in place until it is removed. */
struct mf_watched {
	struct mf_watched *next;
	struct mf_wait_layout *sleeper;
	uint64_t claim; /* of the process watched; 0: none */
	uint32_t alarm; /* it may have died */
};

int mf_watch_make(struct mf_watch **watch_ret);
int mf_watch_add(struct mf_watch *watch, struct mf_watched *watched, struct mf_wait_layout *sleeper,
		 uint64_t own, uint64_t claim);
void mf_watch_remove(struct mf_watch *watch, struct mf_watched *watched);
int mf_watch_alarm(const struct mf_watched *watched);

/* ---- ring.c: one sender, one receiver, in memory given to it ---- */

enum {
	MF_RING_CAPACITY_MIN = 4096,
	MF_RING_INLINE_MAX = 120, /* larger payloads go to the arena */
};

struct mf_ring_layout;

/* How far one end has come: messages, arena bytes (never wrapping), payload bytes. */
struct mf_ring_cursor {
	uint64_t count;
	uint64_t position;
	uint64_t bytes;
};

/* A process-local end of a ring; trusted, while what `shared` points to is not. */
struct mf_ring_end {
	struct mf_ring_layout *shared;
	unsigned char *slots;
	unsigned char *arena;
	uint64_t capacity; /* private copies of the shape */
	uint64_t slot_count;
	struct mf_ring_cursor cursor; /* what is sent, or read */
	struct mf_ring_cursor next;   /* cursor after the open loan, or the message peeked at */
	uint64_t cell;		      /* which shared cell holds our progress: 0 or 1 */
	uint64_t count_seen;	      /* sender: the receiver's count when last looked at */
	uint64_t position_seen;	      /* sender: likewise, its arena position */
	uint64_t claim;		      /* our word in the role */
	int fenced;		      /* the peer cannot fence for us: membarrier is missing here */
	int give_lines;		      /* receiver: hand lines back by storing to them */
	int lent;		      /* receiver: messages borrowed and not yet free */
	struct mf_waiter waiter;
};

struct mf_ring_stats {
	uint64_t capacity;
	uint64_t used;
	uint64_t messages_sent;
	uint64_t bytes_sent;
	uint64_t messages_received;
	uint64_t bytes_received;
	uint64_t waits;
	int sender_pid;
	int receiver_pid;
};

enum mf_peer {
	MF_PEER_ABSENT = 0, /* nobody has come */
	MF_PEER_HERE = 1,
	MF_PEER_CLOSED = 2,
	MF_PEER_DEAD = 3,
};

uint64_t mf_ring_size(uint64_t capacity);
uint64_t mf_ring_message_max(uint64_t capacity);
int mf_ring_format(void *memory, size_t memory_size, uint64_t capacity, uint64_t first_count);
int mf_ring_check(const void *memory, size_t memory_size, uint64_t *capacity_ret);
uint32_t mf_ring_version(const void *memory, size_t memory_size);
int mf_ring_stats(const void *memory, size_t memory_size, struct mf_ring_stats *stats_ret);

/* ---- role.c: who is at the ends of a ring ---- */

int mf_role_claim_sender(void *memory, size_t memory_size, uint64_t from, struct mf_ring_end *end,
			 int *owner_ret);
int mf_role_claim_receiver(void *memory, size_t memory_size, uint64_t from, struct mf_ring_end *end,
			   int *owner_ret);
void mf_role_close_sender(struct mf_ring_end *end);
void mf_role_close_receiver(struct mf_ring_end *end);
int mf_role_wait(struct mf_ring_end *end, int is_sender, size_t body_size, uint64_t peer,
		 uint64_t deadline_ns);
int mf_role_peer(const struct mf_ring_end *end, int is_sender, int *pid_ret);
uint64_t mf_role_peer_claim(const struct mf_ring_end *end, int is_sender);

/* ---- sender.c: the writing end ---- */

int mf_sender_send(struct mf_ring_end *end, const void *body, size_t body_size);
int mf_sender_loan(struct mf_ring_end *end, size_t body_size, void **body_ret);
void mf_sender_commit(struct mf_ring_end *end, size_t body_size);
int mf_sender_has_space(const struct mf_ring_end *end, size_t body_size);
uint64_t mf_sender_unread(const struct mf_ring_end *end);

/* ---- receiver.c: the reading end ---- */

int mf_receiver_peek(struct mf_ring_end *end, const void **body_ret, size_t *body_size_ret);
void mf_receiver_take(struct mf_ring_end *end, void *destination, const void *body,
		      size_t body_size);
void mf_receiver_skip(struct mf_ring_end *end);
void mf_receiver_free(struct mf_ring_end *end, const struct mf_ring_cursor *upto);
int mf_receiver_has_message(const struct mf_ring_end *end, size_t unused);

/* ---- sysv.c: System V segments ---- */

enum mf_sysv_flag {
	MF_SYSV_READONLY = 1,  /* leave it attached so that a store faults */
	MF_SYSV_NORESERVE = 2, /* pages come when they are touched, if there are any left */
	MF_SYSV_TAIL = 4,      /* a key, and yet a tail behind the user's bytes */
};

/* Where mf_sysv_create or mf_sysv_join stopped. */
enum mf_sysv_step {
	MF_SYSV_GET = 0,
	MF_SYSV_ATTACH = 1,
	MF_SYSV_DOOM = 2, /* IPC_RMID at birth */
	MF_SYSV_ROOM = 3,
	MF_SYSV_RESERVE = 4,
};

struct mf_sysv_request {
	int64_t key; /* 0: anonymous */
	uint64_t size;
	uint64_t huge_bytes; /* size of a huge page, or 0 */
	int mode;
	int flags;
};

/* An attachment of this process. */
struct mf_sysv_segment {
	void *address;
	uint64_t size;	      /* the user's bytes */
	uint64_t kernel_size; /* as the kernel has it; larger if there is a tail */
	uint64_t nonce;	      /* 0: there is no tail */
	uint64_t room;	      /* what there was when the room was too small */
	int64_t key;
	int64_t creator_pid;
	int id;
	int step;
};

struct mf_sysv_stat {
	int64_t id;
	int64_t key;
	uint64_t size;
	int64_t mode;
	int64_t uid;
	int64_t gid;
	int64_t cuid;
	int64_t cgid;
	int64_t nattch;
	int64_t creator_pid;
	int64_t last_pid;
	int64_t attach_time;
	int64_t detach_time;
	int64_t change_time;
	int64_t dest;
	int64_t locked;
};

struct mf_sysv_limits {
	uint64_t shmmax; /* bytes */
	uint64_t shmmin;
	uint64_t shmmni; /* segments */
	uint64_t shmall; /* pages */
	uint64_t used_segments;
	uint64_t used_pages;
};

int mf_sysv_create(const struct mf_sysv_request *request, struct mf_sysv_segment *segment);
int mf_sysv_open(int64_t key, int id, int readonly, struct mf_sysv_segment *segment);
int mf_sysv_join(const struct mf_sysv_request *request, struct mf_sysv_segment *segment);
int mf_sysv_detach(void *address);
int mf_sysv_init_claim(const struct mf_sysv_segment *segment, int wanted, uint64_t *claim_ret);
void mf_sysv_init_end(const struct mf_sysv_segment *segment, uint64_t claim, int done);
int mf_sysv_stat(int id, struct mf_sysv_stat *stat_ret);
int mf_sysv_set(int id, int64_t mode, int64_t uid, int64_t gid);
int mf_sysv_lock(int id, int locked);
int mf_sysv_remove(int id);
int mf_sysv_sweep(void);
int mf_sysv_limits(struct mf_sysv_limits *limits_ret);

/* ---- leftover.c: our segments as seen from outside, and which of them a kill left ---- */

struct mf_leftover {
	int id;
	enum mf_life life;
	int64_t key; /* 0: none */
	uint64_t size;
	uint64_t nattch;
	int64_t uid;
	int64_t creator_pid;   /* 0: of another pid namespace */
	int64_t change_time_s; /* after the epoch */
};

int mf_leftover_marked(uint64_t kernel_size);
int mf_leftover_next(int *index, struct mf_leftover *found_ret);
int mf_leftover_remove(int id);

/* ---- sysvlist.c: all System V objects of this IPC namespace, their usage and limits ---- */

enum mf_sysvlist_kind {
	MF_SYSVLIST_SHM = 0,
	MF_SYSVLIST_SEM = 1,
	MF_SYSVLIST_MSG = 2,
};

/* Python unpacks rows as they lie: numbers of 8 bytes, then the flags. */
struct mf_sysvlist_segment {
	int64_t id;
	int64_t key;
	uint64_t size;
	int64_t mode;
	int64_t uid;
	int64_t gid;
	int64_t cuid;
	int64_t cgid;
	int64_t nattch;
	int64_t creator_pid;
	int64_t last_pid;
	int64_t attach_time;
	int64_t detach_time;
	int64_t change_time;
	unsigned char dest;
	unsigned char locked;
	unsigned char unused[6];
	int64_t rss; /* bytes; sysvtable alone knows these two */
	int64_t swap;
};

struct mf_sysvlist_array {
	int64_t id;
	int64_t key;
	int64_t mode;
	int64_t uid;
	int64_t gid;
	int64_t cuid;
	int64_t cgid;
	int64_t nsems;
	int64_t operation_time;
	int64_t change_time;
};

struct mf_sysvlist_queue {
	int64_t id;
	int64_t key;
	int64_t mode;
	int64_t uid;
	int64_t gid;
	int64_t cuid;
	int64_t cgid;
	int64_t used_bytes;
	int64_t messages;
	int64_t limit_bytes;
	int64_t send_pid;
	int64_t receive_pid;
	int64_t send_time;
	int64_t receive_time;
	int64_t change_time;
};

struct mf_sysvlist_semaphore {
	int64_t value;
	int64_t waiting_increase;
	int64_t waiting_zero;
	int64_t last_pid;
};

struct mf_sysvlist_usage {
	uint64_t segments;
	uint64_t shm_pages;
	uint64_t shm_resident_pages;
	uint64_t shm_swapped_pages;
	uint64_t shm_swap_attempts;
	uint64_t shm_swap_successes;
	uint64_t semaphore_arrays;
	uint64_t semaphores;
	uint64_t queues;
	uint64_t messages;
	uint64_t message_bytes;
};

struct mf_sysvlist_limits {
	uint64_t shmmax;
	uint64_t shmmin;
	uint64_t shmall;
	uint64_t shmmni;
	uint64_t semmni;
	uint64_t semmsl;
	uint64_t semmns;
	uint64_t semopm;
	uint64_t semvmx;
	uint64_t msgmni;
	uint64_t msgmax;
	uint64_t msgmnb;
};

/* What was seen when an object was chosen; it is removed only if that still holds. */
struct mf_sysvlist_seen {
	int64_t id;
	int64_t key;
	int64_t uid;
	int64_t change_time;
	int only_unused; /* leave it if anybody has attached it */
};

int64_t mf_sysvlist_room(int kind);
int64_t mf_sysvlist_segments(struct mf_sysvlist_segment *rows, size_t room);
int64_t mf_sysvlist_arrays(struct mf_sysvlist_array *rows, size_t room);
int64_t mf_sysvlist_queues(struct mf_sysvlist_queue *rows, size_t room);
int mf_sysvlist_semaphore(int id, int number, struct mf_sysvlist_semaphore *semaphore_ret);
int mf_sysvlist_usage(struct mf_sysvlist_usage *usage_ret);
int mf_sysvlist_limits(struct mf_sysvlist_limits *limits_ret);
int mf_sysvlist_remove(int kind, const struct mf_sysvlist_seen *seen);
int mf_sysvlist_abandoned(int64_t nattch, int64_t creator_pid);

/* ---- sysvtable.c: /proc/sysvipc/shm ---- */

int64_t mf_sysvtable_segments(struct mf_sysvlist_segment *rows, size_t room);

/* ---- mapping.c: mmap and what belongs to it ---- */

int mf_mapping_memfd(uint64_t size, unsigned mode, unsigned page_log2, int *fd_ret);
int mf_mapping_reserve(int fd, uint64_t size);
int mf_mapping_map(int fd, uint64_t offset, size_t size, int readonly, void **address_ret);
int mf_mapping_unmap(void *address, size_t size);
int mf_mapping_populate(void *address, size_t size);
uint64_t mf_mapping_page_bytes(int fd);
int mf_mapping_flush(void *address, size_t size, int wait);
int mf_mapping_lock(void *address, size_t size, int onfault);
int mf_mapping_unlock(void *address, size_t size);
int mf_mapping_resident(void *address, size_t size, uint64_t *pages_ret, uint64_t *resident_ret);
int mf_mapping_truthful(int fd);

/* ---- advice.c: madvise(2), by name ---- */

enum mf_advice_care {
	MF_ADVICE_FREE = 0,
	MF_ADVICE_WHOLE_PAGES = 1, /* spoils contents: never round it out to a neighbour's page */
	MF_ADVICE_RESERVED = 2,	   /* as above, and gives up what a reserved mapping relies on */
	MF_ADVICE_REFUSED = 3,	   /* would let a view end in a signal */
};

struct mf_advice {
	const char *name;
	int number;
	int care;	     /* enum mf_advice_care */
	const char *since;   /* the first kernel that has it */
	const char *refusal; /* MF_ADVICE_REFUSED: why */
};

const struct mf_advice *mf_advice_at(unsigned index);
int mf_advice_known(void *address, int number);
int mf_advice_give(void *address, size_t size, int number);

/* ---- namedir.c: a user's directory of names, and what is in it ---- */

struct stat;

/* What is behind a name; what cannot be known is 0. */
struct mf_namedir_entry {
	uint32_t mode; /* st_mode */
	uint32_t uid;
	uint64_t size;
	int64_t changed_ns; /* st_ctim, after the epoch: since it has the name, or another mode */
	int lived_on;	    /* a map: somebody has it */
	uint32_t version;   /* a record: of the layout */
	int32_t segment_id;
	uint64_t nonce;
};

int mf_namedir_open(uint32_t owner, int create, int *fd_ret);
int mf_namedir_lock(uint32_t owner, int create, int *fd_ret);
void mf_namedir_unlock(int directory);
int mf_namedir_open_file(int directory, uint32_t owner, const char *file, int access, int *fd_ret,
			 struct stat *status_ret);
int mf_namedir_lived_on(int fd);
int mf_namedir_compare(int directory, const char *file, const struct stat *opened);
int mf_namedir_unlink(int directory, const char *file, const struct stat *opened);
int mf_namedir_remove_dead(int directory, uint32_t owner, const char *file);
int mf_namedir_look(int directory, uint32_t owner, const char *file, int is_map,
		    struct mf_namedir_entry *entry_ret);
int mf_namedir_reap(uint32_t owner, const char *file, int is_map, int32_t segment_id,
		    uint64_t nonce);

/* ---- name.c: names under /dev/shm/memfast-<euid>/ ---- */

int mf_name_clear(const char *file);
int mf_name_make(int *fd_ret);
int mf_name_twin(int fd, int readonly, int *fd_ret);
int mf_name_publish(int fd, const char *file, unsigned mode, int live);
int mf_name_open(const char *file, int *fd_ret, uint64_t *size_ret);
int mf_name_attach(const char *file, int readonly, int *fd_ret);
int mf_name_unlink(int fd, const char *file);
int mf_name_release(int fd, const char *file);

/* ---- record.c: a name's record of a segment ---- */

int mf_record_publish(const char *file, int32_t segment_id, uint64_t nonce);
int mf_record_examine(int fd, uint64_t size, int32_t *segment_id_ret, uint64_t *nonce_ret,
		      uint32_t *version_ret);
int mf_record_read(const char *file, int32_t *segment_id_ret, uint64_t *nonce_ret,
		   uint32_t *version_ret);
int mf_record_remove(const char *file, int32_t segment_id, uint64_t nonce);

/* ---- probe.c: what this kernel, or who confines us, does not have ---- */

enum mf_probe_feature {
	MF_PROBE_MEMBARRIER,
	MF_PROBE_PIDFD,
	MF_PROBE_SEALS,
	MF_PROBE_POPULATE,
	MF_PROBE_CACHESTAT,
	MF_PROBE_WAITV,
	MF_PROBE_USERNS,
};

int mf_probe_try(int feature);

/* ---- text.c: lines of a key and a number ---- */

struct mf_text_field {
	const char *key; /* inside the text; not ended by a NUL */
	size_t key_size;
	uint64_t value; /* "kB" turned into bytes */
	int in_bytes;	/* whether there was a "kB" */
};

const char *mf_text_number(const char *at, const char *end, uint64_t *number_ret);
uint64_t mf_text_kib(uint64_t number);
int mf_text_next(const char **at, const char *end, struct mf_text_field *field_ret);
int mf_text_find(const char *text, size_t size, const char *key, size_t key_size,
		 uint64_t *value_ret);

/* ---- procfile.c: files of /proc read through one descriptor ---- */

struct mf_procfile {
	int fd;	  /* -1: not open */
	int pid;  /* who opened it: /proc/self is another file in a child */
	int mark; /* by which it is known to be ours still; 0: by device and inode */
	uint64_t device, inode;
	int64_t text_size; /* of the first reading */
};

int64_t mf_procfile_open(struct mf_procfile *file, const char *path, char *buffer, size_t size);
int64_t mf_procfile_read(struct mf_procfile *file, int pid, char *buffer, size_t size);
void mf_procfile_close(struct mf_procfile *file);

/* ---- sysmem.c: sysinfo(2) ---- */

struct mf_sysmem {
	uint64_t uptime_s;
	double loads[3]; /* runnable and blocked tasks, mean of 1, 5 and 15 minutes */
	uint64_t totalram;
	uint64_t freeram;
	uint64_t sharedram;
	uint64_t bufferram;
	uint64_t totalswap;
	uint64_t freeswap;
	uint64_t procs; /* tasks: threads count */
};

int mf_sysmem_info(struct mf_sysmem *ret);

/* ---- meminfo.c: what free(1) and psutil make of /proc/meminfo ---- */

/* Bytes; 0 where the kernel does not say. */
struct mf_meminfo {
	uint64_t total, free, available, buffers, cached, active, inactive;
	uint64_t high_total, high_free, low_total, low_free;
	uint64_t swap_total, swap_free, shmem, slab, reclaimable;
	uint64_t commit_limit, committed;
};

/* Where the lines of a meminfo are, by mf_meminfo_parse() for itself. */
struct mf_meminfo_places {
	uint64_t size;
	uint32_t wanted, count;
	uint32_t at[18];
	uint8_t key[18];
};

struct mf_free {
	uint64_t total;
	int64_t used;
	uint64_t free, shared, buffers, cache, available;
	uint64_t swap_total, swap_used, swap_free;
	uint64_t low_total, low_used, low_free;
	uint64_t high_total, high_used, high_free;
	uint64_t commit_limit, committed;
};

void mf_meminfo_parse(const char *text, size_t size, int with_commit,
		      struct mf_meminfo_places *places, struct mf_meminfo *ret);
void mf_meminfo_free(const struct mf_meminfo *info, struct mf_free *ret);

/* ---- procdir.c: the files of one process under /proc ---- */

int mf_procdir_open(int64_t pid);
int mf_procdir_read(int dir, const char *file, char **text_ret, size_t *size_ret);
int mf_procdir_mappings(int64_t pid, const char *file, char **text_ret, size_t *size_ret);

/* ---- procmaps.c: a process's mappings ---- */

/* A mapping's own line; the texts lie in the text that was read, without a NUL. */
struct mf_procmaps_vma {
	uint64_t start, end, offset, inode;
	const char *perms; /* four bytes */
	const char *device;
	const char *path;
	size_t device_size, path_size;
};

/* The figures of smaps in the kernel's order. Bytes; the last is 0 or 1. */
enum mf_procmaps_figure {
	MF_PROCMAPS_SIZE,
	MF_PROCMAPS_KERNEL_PAGE_SIZE,
	MF_PROCMAPS_MMU_PAGE_SIZE,
	MF_PROCMAPS_RSS,
	MF_PROCMAPS_PSS,
	MF_PROCMAPS_PSS_DIRTY,
	MF_PROCMAPS_SHARED_CLEAN,
	MF_PROCMAPS_SHARED_DIRTY,
	MF_PROCMAPS_PRIVATE_CLEAN,
	MF_PROCMAPS_PRIVATE_DIRTY,
	MF_PROCMAPS_REFERENCED,
	MF_PROCMAPS_ANONYMOUS,
	MF_PROCMAPS_KSM,
	MF_PROCMAPS_LAZYFREE,
	MF_PROCMAPS_ANON_HUGE_PAGES,
	MF_PROCMAPS_SHMEM_PMD_MAPPED,
	MF_PROCMAPS_FILE_PMD_MAPPED,
	MF_PROCMAPS_SHARED_HUGETLB,
	MF_PROCMAPS_PRIVATE_HUGETLB,
	MF_PROCMAPS_SWAP,
	MF_PROCMAPS_SWAP_PSS,
	MF_PROCMAPS_LOCKED,
	MF_PROCMAPS_THP_ELIGIBLE,
	MF_PROCMAPS_FIGURES, /* how many */
};

struct mf_procmaps_smap {
	uint64_t figures[MF_PROCMAPS_FIGURES];
	const char *flags; /* of VmFlags, without the blank at the end */
	size_t flags_size;
	const char *lines; /* all of this mapping's figures */
	size_t lines_size;
	size_t others; /* lines among them that are not known here */
};

/* A line of smaps that is not known here. */
struct mf_procmaps_other {
	const char *key;
	size_t key_size;
	const char *text; /* what follows the colon and the blanks */
	size_t text_size;
	uint64_t number; /* "kB" turned into bytes */
	int has_number;	 /* the text is a number, with or without kB, and nothing else */
};

int mf_procmaps_read(int64_t pid, int with_figures, char **text_ret, size_t *size_ret);
void mf_procmaps_free(char *text);
int mf_procmaps_next(const char **at, const char *end, struct mf_procmaps_vma *vma_ret);
void mf_procmaps_figures(const char **at, const char *end, struct mf_procmaps_smap *smap_ret);
int mf_procmaps_other(const char **at, const char *end, struct mf_procmaps_other *other_ret);

/* ---- procmem.c: a process's memory in figures ---- */

/* Bytes; 0 where there is no memory, or the kernel does not say. */
struct mf_procmem {
	uint64_t rss, vms, shared, text, data;		      /* statm */
	uint64_t peak_rss, peak_vms, swap, anon, file, shmem; /* status */
	uint64_t locked, pinned, page_tables, stack, hugetlb;
};

/* From smaps_rollup, or smaps added up. Bytes. */
struct mf_procmem_exact {
	uint64_t uss, rss, pss, pss_dirty, pss_anon, pss_file, pss_shmem;
	uint64_t shared_clean, shared_dirty, private_clean, private_dirty, referenced, anonymous;
	uint64_t ksm, lazyfree, anon_huge_pages, shmem_pmd_mapped, file_pmd_mapped;
	uint64_t shared_hugetlb, private_hugetlb, swap, swap_pss, locked;
};

int mf_procmem_read(int64_t pid, struct mf_procmem *ret);
int mf_procmem_parse_statm(const char *text, size_t size, uint64_t page_bytes,
			   struct mf_procmem *ret);
void mf_procmem_parse_status(const char *text, size_t size, struct mf_procmem *ret);
int mf_procmem_read_exact(int64_t pid, struct mf_procmem_exact *ret);
void mf_procmem_parse_exact(const char *text, size_t size, struct mf_procmem_exact *ret);
int mf_procmem_faults(int64_t pid, uint64_t *minor_ret, uint64_t *major_ret);
int mf_procmem_parse_faults(const char *text, size_t size, uint64_t *minor_ret,
			    uint64_t *major_ret);

/* ---- room.c: how much more memory this process may take ---- */

int mf_room_bytes(uint64_t *bytes_ret);

#endif
