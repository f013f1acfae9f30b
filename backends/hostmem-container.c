/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * memory-backend-container: guest RAM composed of its children.
 */
#include "qemu/osdep.h"
#include <sys/mman.h>
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "qemu/madvise.h"
#include "qemu/module.h"
#include "qemu/units.h"
#include "qom/object_interfaces.h"
#include "hw/hybridmem/container.h"
#include "hw/hybridmem/engine.h"
#include "hw/hybridmem/hooks.h"
#include "hw/qdev-core.h"
#include "hw/xen/xen.h"
#include "exec/target_page.h"
#include "migration/postcopy-ram.h"
#include "system/system.h"
#include "system/xen.h"

/* The range begins where 2 MiB and 1 GiB pages could begin, too. */
#define RANGE_ALIGN (1 * GiB)

static int child_compare(gconstpointer a, gconstpointer b)
{
    const HmChild *x = a, *y = b;

    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* Reserves without committing memory; what it replaces is gone. */
static bool reserve_at(void *at, uint64_t size)
{
    return mmap(at, size, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
                -1, 0) != MAP_FAILED;
}

static uint8_t *reserve(uint64_t size, Error **errp)
{
    uint64_t align = MIN(RANGE_ALIGN, pow2ceil(size));
    uint8_t *p, *start;

    p = mmap(NULL, size + align, PROT_NONE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) {
        error_setg_errno(errp, errno, "cannot reserve %" PRIu64
                         " bytes of address space", size);
        return NULL;
    }
    start = (uint8_t *)ROUND_UP((uintptr_t)p, align);
    if (start != p) {
        munmap(p, start - p);
    }
    /* What follows stays PROT_NONE: a guard page. */
    munmap(start + size + qemu_real_host_page_size(),
           p + align - start - qemu_real_host_page_size());
    if (!reserve_at(start, size)) {
        error_setg_errno(errp, errno, "cannot reserve guest RAM");
        munmap(start, size + qemu_real_host_page_size());
        return NULL;
    }
    return start;
}

static bool child_fits(HmContainer *c, const HmChild *n, Error **errp)
{
    const char *id = object_get_canonical_path_component(OBJECT(n->backend));
    const char *cid = object_get_canonical_path_component(OBJECT(c));
    uint64_t size = hm_container_size(c);
    unsigned i;

    if (c->children->len == HM_EXTENTS_MAX) {
        error_setg(errp, "'%s' has %u children already, which is the most",
                   cid, HM_EXTENTS_MAX);
        return false;
    }
    if (n->offset >= size || n->size > size - n->offset) {
        error_setg(errp, "'%s' with offset=0x%" PRIx64 ",size=0x%" PRIx64
                   " ends beyond its parent '%s' of size 0x%" PRIx64,
                   id, n->offset, n->size, cid, size);
        return false;
    }
    for (i = 0; i < c->children->len; i++) {
        const HmChild *o = hm_container_child(c, i);

        if (n->offset < o->offset + o->size &&
            o->offset < n->offset + n->size) {
            error_setg(errp, "'%s' with offset=0x%" PRIx64 ",size=0x%" PRIx64
                       " overlaps '%s' with offset=0x%" PRIx64
                       ",size=0x%" PRIx64 " in '%s'", id, n->offset, n->size,
                       object_get_canonical_path_component(OBJECT(o->backend)),
                       o->offset, o->size, cid);
            return false;
        }
    }
    return true;
}

static bool map_child(HmContainer *c, const HmChild *o, Error **errp)
{
    if (mmap(c->host + o->offset, o->size, PROT_READ | PROT_WRITE,
             o->map_flags | MAP_FIXED, o->fd, o->fd_offset) == MAP_FAILED) {
        error_setg_errno(errp, errno, "cannot map %s at phy-offset=0x%" PRIx64
                         ",size=0x%" PRIx64, o->path, o->fd_offset, o->size);
        reserve_at(c->host + o->offset, o->size);
        return false;
    }
    if (!c->parent_obj.dump) {
        qemu_madvise(c->host + o->offset, o->size, QEMU_MADV_DONTDUMP);
    }
    return true;
}

static const HmChild *find_child(HmContainer *c, HostMemoryBackend *backend)
{
    unsigned i;

    for (i = 0; i < c->children->len; i++) {
        if (hm_container_child(c, i)->backend == backend) {
            return hm_container_child(c, i);
        }
    }
    return NULL;
}

bool hm_container_map_again(HmContainer *c, HostMemoryBackend *backend,
                            Error **errp)
{
    return map_child(c, find_child(c, backend), errp);
}

bool hm_container_add(HmContainer *c, const HmChild *child, Error **errp)
{
    if (!child_fits(c, child, errp)) {
        return false;
    }
    if (!map_child(c, child, errp)) {
        return false;
    }
    g_array_append_vals(c->children, child, 1);
    g_array_sort(c->children, child_compare);
    return true;
}

void hm_container_remove(HmContainer *c, HostMemoryBackend *backend)
{
    const HmChild *o = find_child(c, backend);

    if (o) {
        reserve_at(c->host + o->offset, o->size);
        g_array_remove_index(c->children, o - hm_container_child(c, 0));
    }
}

bool hm_container_check(HmContainer *c, Error **errp)
{
    const char *id = object_get_canonical_path_component(OBJECT(c));
    uint64_t end = 0;
    unsigned i;

    for (i = 0; i < c->children->len; i++) {
        if (hm_container_child(c, i)->offset != end) {
            break;
        }
        end += hm_container_child(c, i)->size;
    }
    if (end < hm_container_size(c)) {
        uint64_t next = i < c->children->len ?
                        hm_container_child(c, i)->offset :
                        hm_container_size(c);

        error_setg(errp, "the children of '%s' leave a hole: nothing covers"
                   " offset 0x%" PRIx64 " to 0x%" PRIx64, id, end, next);
        error_append_hint(errp, "Add -object memory-backend-devmem,parent=%s,"
                          "offset=0x%" PRIx64 ",size=0x%" PRIx64 ",...\n",
                          id, end, next - end);
        return false;
    }
    return true;
}

/* Guest RAM of the machine, and not of a DIMM or virtio-mem? */
static bool used_by_machine(HmContainer *c)
{
    MachineState *ms = current_machine;
    int i;

    if (ms->memdev == &c->parent_obj) {
        return true;
    }
    for (i = 0; ms->numa_state && i < ms->numa_state->num_nodes; i++) {
        if (ms->numa_state->nodes[i].node_memdev == &c->parent_obj) {
            return true;
        }
    }
    return false;
}

static bool check_use(HmContainer *c, Error **errp)
{
    const char *id = object_get_canonical_path_component(OBJECT(c));

    if (used_by_machine(c)) {
        return true;
    }
    if (host_memory_backend_is_mapped(&c->parent_obj)) {
        error_setg(errp, "memory-backend-container '%s' backs a memory device"
                   " (pc-dimm, nvdimm, virtio-mem, virtio-pmem); it can only"
                   " be the RAM of the machine", id);
    } else {
        error_setg(errp, "memory-backend-container '%s' is not used", id);
    }
    error_append_hint(errp, "Use -machine memory-backend=%s or"
                      " -numa node,memdev=%s\n", id, id);
    return false;
}

static void container_machine_done(Notifier *n, void *unused)
{
    HmContainer *c = container_of(n, HmContainer, machine_done);
    Error *err = NULL;

    if (!hm_container_check(c, &err) || !check_use(c, &err) ||
        !hm_engine_attach_default(c, &err)) {
        error_report_err(err);
        exit(EXIT_FAILURE);
    }
}

/* Postcopy would drop pages by the RAMBlock's file, which we do not have. */
static int container_postcopy(NotifierWithReturn *n, void *data, Error **errp)
{
    HmContainer *c = container_of(n, HmContainer, postcopy);
    struct PostcopyNotifyData *pnd = data;

    if (pnd->reason == POSTCOPY_NOTIFY_PROBE) {
        error_setg(errp, "postcopy is not possible with"
                   " memory-backend-container '%s'; use precopy",
                   object_get_canonical_path_component(OBJECT(c)));
        return -ENOTSUP;
    }
    return 0;
}

static bool options_fit(HmContainer *c, Error **errp)
{
    HostMemoryBackend *b = &c->parent_obj;
    const char *id = object_get_canonical_path_component(OBJECT(c));
    uint64_t page = qemu_real_host_page_size();

    if (b->prealloc || b->policy != HOST_MEM_POLICY_DEFAULT ||
        !bitmap_empty(b->host_nodes, MAX_NODES)) {
        error_setg(errp, "prealloc (or -mem-prealloc), policy and host-nodes"
                   " are not for '%s', but for its memory-backend-devmem"
                   " children", id);
    } else if (b->merge) {
        error_setg(errp, "merge=on is not possible for '%s': its memory is"
                   " shared with devices and files; leave it off", id);
    } else if (!b->share) {
        error_setg(errp, "share=off is not possible for '%s': its memory is"
                   " shared with devices and files; leave it on", id);
    } else if (b->guest_memfd || (current_machine && current_machine->cgs)) {
        error_setg(errp, "memory-backend-container '%s' cannot back a"
                   " confidential guest", id);
    } else if (!b->size || !QEMU_IS_ALIGNED(b->size, page)) {
        error_setg(errp, "size=%" PRIu64 " of '%s' must be a multiple of"
                   " %" PRIu64, b->size, id, page);
    } else if (xen_enabled() || xen_mode != XEN_DISABLED) {
        error_setg(errp, "memory-backend-container is not possible with Xen");
    } else if (phase_check(PHASE_MACHINE_INITIALIZED)) {
        error_setg(errp, "memory-backend-container cannot be added once the"
                   " machine exists: only the RAM of the machine can be"
                   " composed; give it on the command line, or in"
                   " --preconfig");
    } else if (hybridmem_vhost_in_use()) {
        error_setg(errp, "memory-backend-container '%s' is not possible"
                   " with vhost; use vhost=off, or a device without vhost",
                   id);
    } else {
        return true;
    }
    return false;
}

static bool refuse_the_unsafe(HmContainer *c, Error **errp)
{
    const char *id = object_get_canonical_path_component(OBJECT(c));

    if (ram_block_discard_require(true)) {
        error_setg(errp, "memory-backend-container '%s' is not possible with"
                   " devices that pin guest RAM (VFIO, vDPA, SEV)", id);
        return false;
    }
    c->discard_required = true;
    error_setg(&c->cpr_blocker, "memory-backend-container '%s' cannot be"
               " handed to a new QEMU", id);
    if (hm_block_cpr_reboot(&c->cpr_blocker, errp) < 0) {
        return false;
    }
    c->postcopy.notify = container_postcopy;
    postcopy_add_notifier(&c->postcopy);
    return true;
}

static bool container_alloc(HostMemoryBackend *backend, Error **errp)
{
    HmContainer *c = MEMORY_BACKEND_CONTAINER(backend);
    g_autofree char *name = host_memory_backend_get_name(backend);

    if (!options_fit(c, errp) || !refuse_the_unsafe(c, errp)) {
        return false;
    }
    c->host = reserve(backend->size, errp);
    if (!c->host) {
        return false;
    }
    c->pins = hm_pins_new(backend->size, qemu_target_page_size());
    memory_region_init_ram_ptr(&backend->mr, OBJECT(c), name, backend->size,
                               c->host);
    /* What sizes memory devices divides by it. */
    backend->mr.align = QEMU_VMALLOC_ALIGN;
    if (!hm_hooks_add_container(c, errp)) {
        return false;
    }
    c->machine_done.notify = container_machine_done;
    qemu_add_machine_init_done_notifier(&c->machine_done);
    return true;
}

static bool container_get_rebalance(Object *obj, Error **errp)
{
    return MEMORY_BACKEND_CONTAINER(obj)->rebalance;
}

static void container_set_rebalance(Object *obj, bool value, Error **errp)
{
    if (host_memory_backend_mr_inited(MEMORY_BACKEND(obj))) {
        error_setg(errp, "cannot change property 'rebalance' of '%s': it is"
                   " in use", object_get_canonical_path_component(obj));
        return;
    }
    MEMORY_BACKEND_CONTAINER(obj)->rebalance = value;
}

static void container_init(Object *obj)
{
    HmContainer *c = MEMORY_BACKEND_CONTAINER(obj);

    c->rebalance = true;
    c->parent_obj.merge = false;
    c->parent_obj.share = true;
    c->children = g_array_new(false, true, sizeof(HmChild));
}

static void container_finalize(Object *obj)
{
    HmContainer *c = MEMORY_BACKEND_CONTAINER(obj);

    if (c->machine_done.notify) {
        qemu_remove_machine_init_done_notifier(&c->machine_done);
    }
    if (c->postcopy.notify) {
        postcopy_remove_notifier(&c->postcopy);
    }
    migrate_del_blocker(&c->cpr_blocker);
    if (c->discard_required) {
        ram_block_discard_require(false);
    }
    hm_hooks_del_container(c);
    /*
     * The range and the pins stay: RCU readers of the RAMBlock may still
     * look at them, and only the end of QEMU comes here in practice.
     */
    g_array_free(c->children, true);
    hm_frames_free(c->frames);
}

static bool container_can_be_deleted(UserCreatable *uc)
{
    HmContainer *c = MEMORY_BACKEND_CONTAINER(uc);

    return !host_memory_backend_is_mapped(&c->parent_obj) &&
           !c->children->len;
}

static void container_class_init(ObjectClass *oc, HmClassData *data)
{
    HostMemoryBackendClass *bc = MEMORY_BACKEND_CLASS(oc);
    UserCreatableClass *ucc = USER_CREATABLE_CLASS(oc);

    ucc->can_be_deleted = container_can_be_deleted;
    bc->alloc = container_alloc;
    object_class_property_add_bool(oc, "rebalance", container_get_rebalance,
                                   container_set_rebalance);
    object_class_property_set_description(oc, "rebalance",
        "Make an engine with default parameters if no hybridmem names it");
}

static const TypeInfo container_info = {
    .name = TYPE_MEMORY_BACKEND_CONTAINER,
    .parent = TYPE_MEMORY_BACKEND,
    .instance_size = sizeof(HmContainer),
    .instance_init = container_init,
    .instance_finalize = container_finalize,
    .class_init = container_class_init,
};

static void register_types(void)
{
    type_register_static(&container_info);
}

type_init(register_types);
