/* A plugin for qemu-user that counts instructions. At exit it writes the number of all instructions that ran, then one
 * line for each block of code: the instructions that ran in it, its address, its instructions. The declarations are
 * those of qemu's plugin interface, version 1, whose header Debian does not ship. */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
enum { ADD_U64 };
extern void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id, void (*callback)(plugin_id, struct qemu_plugin_tb *));
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *tb, int op, void *to, uint64_t term);
extern void qemu_plugin_register_atexit_cb(plugin_id id, void (*callback)(plugin_id, void *), void *data);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
extern uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

static struct block {
    uint64_t address, length, ran;
} blocks[1 << 16];
static size_t count;
static const char *output;

static void translated(plugin_id id, struct qemu_plugin_tb *tb)
{
    (void)id;
    struct block *const b = &blocks[count < sizeof blocks / sizeof *blocks - 1 ? count++ : count];
    b->address = qemu_plugin_tb_vaddr(tb);
    b->length = qemu_plugin_tb_n_insns(tb);
    qemu_plugin_register_vcpu_tb_exec_inline(tb, ADD_U64, &b->ran, b->length);
}

static void finished(plugin_id id, void *data)
{
    (void)id;
    (void)data;
    FILE *const file = fopen(output, "w");
    if (file == NULL) {
        abort();
    }
    for (size_t i = 0; i < count; i++) {
        fprintf(file, "%" PRIu64 " %" PRIu64 " %" PRIu64 "\n", blocks[i].ran, blocks[i].address, blocks[i].length);
    }
    fclose(file);
}

__attribute__((visibility("default"))) int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv)
{
    (void)info;
    if (argc != 1 || strncmp(argv[0], "output=", 7) != 0) {
        return 1;
    }
    output = argv[0] + 7;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, finished, NULL);
    return 0;
}
