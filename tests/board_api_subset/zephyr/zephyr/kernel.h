#ifndef KWS_TESTS_ZEPHYR_KERNEL_H_
#define KWS_TESTS_ZEPHYR_KERNEL_H_

#include <stddef.h>
#include <stdint.h>

typedef struct {
  int64_t ticks;
} k_timeout_t;
typedef struct {
  char byte;
} k_thread_stack_t;
struct k_thread {
  int unused;
};
struct k_sem {
  int count;
};
struct k_mem_slab {
  int blocks;
};
typedef void (*k_thread_entry_t)(void *first, void *second, void *third);
typedef struct k_thread *k_tid_t;

#define K_MSEC(ms) ((k_timeout_t){(ms)})
#define K_NO_WAIT ((k_timeout_t){0})
#define K_PRIO_COOP(level) (-16 + (level))
#define K_MEM_SLAB_DEFINE_STATIC(name, block_bytes, blocks, alignment) static struct k_mem_slab name = {blocks}
#define K_SEM_DEFINE(name, initial, limit) \
  extern struct k_sem name;                \
  struct k_sem name = {initial}
#define K_THREAD_STACK_DEFINE(name, bytes) static k_thread_stack_t name[bytes]
#define K_THREAD_STACK_SIZEOF(name) sizeof(name)

int64_t k_uptime_ticks(void);
uint64_t k_ticks_to_us_floor64(uint64_t ticks);
int k_sem_take(struct k_sem *semaphore, k_timeout_t timeout);
void k_sem_give(struct k_sem *semaphore);
void k_mem_slab_free(struct k_mem_slab *slab, void *block);
k_tid_t k_thread_create(struct k_thread *thread, k_thread_stack_t *stack, size_t stack_bytes, k_thread_entry_t entry,
                        void *first, void *second, void *third, int priority, uint32_t options, k_timeout_t delay);

#endif
