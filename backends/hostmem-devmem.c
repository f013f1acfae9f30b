/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * memory-backend-devmem: a range of physical memory, of a device or of a
 * file, mapped into a memory-backend-container.
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-builtin-visit.h"
#include "qapi/qapi-types-hybridmem.h"
#include "qapi/visitor.h"
#include "qemu/module.h"
#include "qom/object_interfaces.h"
#include "hw/hybridmem/container.h"
#include "hw/hybridmem/tier-file.h"

#ifdef CONFIG_NUMA
#include <numaif.h>
#endif

#define DEFAULT_PATH "/dev/mem"

OBJECT_DECLARE_SIMPLE_TYPE(HmDevmem, MEMORY_BACKEND_DEVMEM)

struct HmDevmem {
    HostMemoryBackend parent_obj;

    char *parent_id;
    char *path;
    uint64_t offset;            /* in the parent */
    uint64_t phy_offset;        /* in the file */
    HybridmemTier tier;
    bool has_tier;
    bool clear;

    HmTierFile file;
    HmContainer *container;     /* referenced while mapped */
};

static const char *devmem_id(HmDevmem *d)
{
    return object_get_canonical_path_component(OBJECT(d));
}

/* One predicate for "too late to change". */
static bool devmem_is_mapped(Object *obj, const char *name, Error **errp)
{
    if (!MEMORY_BACKEND_DEVMEM(obj)->container) {
        return false;
    }
    error_setg(errp, "cannot change property '%s' of '%s': it is mapped",
               name, devmem_id(MEMORY_BACKEND_DEVMEM(obj)));
    return true;
}

static HmContainer *find_parent(HmDevmem *d, Error **errp)
{
    bool ambiguous = false;
    Object *o;

    if (!d->parent_id) {
        error_setg(errp, "'%s' needs parent=, the id of a"
                   " memory-backend-container", devmem_id(d));
        return NULL;
    }
    o = object_resolve_path_type(d->parent_id, TYPE_MEMORY_BACKEND_CONTAINER,
                                 &ambiguous);
    if (!o) {
        error_setg(errp, "parent=%s of '%s' is %s", d->parent_id,
                   devmem_id(d), ambiguous ? "ambiguous" :
                   "not the id of a memory-backend-container");
        error_append_hint(errp, "The container must stand before its"
                          " children on the command line\n");
        return NULL;
    }
    return MEMORY_BACKEND_CONTAINER(o);
}

static bool options_fit(HmDevmem *d, Error **errp)
{
    HostMemoryBackend *b = &d->parent_obj;
    uint64_t page = qemu_real_host_page_size();

    if (b->merge) {
        error_setg(errp, "merge=on is not possible for '%s': its memory is"
                   " shared with a device or file; leave it off",
                   devmem_id(d));
    } else if (!b->share) {
        error_setg(errp, "share=off is not possible for '%s': its memory is"
                   " shared with a device or file; leave it on",
                   devmem_id(d));
    } else if (!b->size || !QEMU_IS_ALIGNED(b->size, page) ||
               !QEMU_IS_ALIGNED(d->offset, page)) {
        error_setg(errp, "size=0x%" PRIx64 " and offset=0x%" PRIx64 " of '%s'"
                   " must be multiples of 0x%" PRIx64 ", and size not 0",
                   b->size, d->offset, devmem_id(d), page);
    } else {
        return true;
    }
    return false;
}

/* policy= and host-nodes= as for any backend; prealloc= after it. */
static bool bind_and_populate(HmDevmem *d, Error **errp)
{
    ERRP_GUARD();
    HostMemoryBackend *b = &d->parent_obj;
    void *host = d->container->host + d->offset;

#ifdef CONFIG_NUMA
    unsigned long last = find_last_bit(b->host_nodes, MAX_NODES);
    unsigned long max_node = (last + 1) % (MAX_NODES + 1);

    if (!max_node != (b->policy == HOST_MEM_POLICY_DEFAULT)) {
        error_setg(errp, "policy and host-nodes of '%s' must be given"
                   " together", devmem_id(d));
        return false;
    }
    if (max_node) {
        if (mbind(host, b->size, b->policy, b->host_nodes, max_node + 1,
                  MPOL_MF_STRICT | MPOL_MF_MOVE)) {
            error_setg_errno(errp, errno, "cannot bind '%s' to host NUMA"
                             " nodes", devmem_id(d));
            return false;
        }
        /* The file remembers the policy. */
        if (!hm_container_map_again(d->container, b, errp)) {
            return false;
        }
    }
#endif
    if (b->prealloc &&
        !qemu_prealloc_mem(d->file.fd, host, b->size, b->prealloc_threads,
                           b->prealloc_context, false, errp)) {
        error_prepend(errp, "'%s', mem-path=%s: is there room for 0x%" PRIx64
                      " bytes? ", devmem_id(d), d->path, b->size);
        return false;
    }
    return true;
}

static bool map_into(HmDevmem *d, HmContainer *c, Error **errp)
{
    HmChild child = {
        .backend = &d->parent_obj,
        .path = d->path,
        .offset = d->offset,
        .size = d->parent_obj.size,
        .fd = d->file.fd,
        .fd_offset = d->phy_offset,
        .align = d->file.align,
        .tier = d->tier == HYBRIDMEM_TIER_DRAM ? HM_TIER_DRAM : HM_TIER_NVM,
        .mergeable = d->file.mergeable,
        .map_flags = d->file.map_flags,
        .pmem = d->file.pmem,
    };

    if (!hm_container_add(c, &child, errp)) {
        return false;
    }
    d->container = c;
    object_ref(OBJECT(c));
    if ((!d->clear || hm_tier_file_clear(&d->file, d->path,
                                         c->host + d->offset, errp)) &&
        bind_and_populate(d, errp)) {
        return true;
    }
    hm_container_remove(c, &d->parent_obj);
    d->container = NULL;
    object_unref(OBJECT(c));
    return false;
}

static void devmem_complete(UserCreatable *uc, Error **errp)
{
    HmDevmem *d = MEMORY_BACKEND_DEVMEM(uc);
    HostMemoryBackend *b = &d->parent_obj;
    HmContainer *c = find_parent(d, errp);
    g_autofree char *name = host_memory_backend_get_name(b);

    if (!c || !options_fit(d, errp)) {
        return;
    }
    if (!d->has_tier) {
        d->tier = d->offset ? HYBRIDMEM_TIER_NVM : HYBRIDMEM_TIER_DRAM;
    }
    if (host_memory_backend_is_mapped(&c->parent_obj)) {
        error_setg(errp, "'%s' comes too late: its parent '%s' is in use",
                   devmem_id(d), d->parent_id);
        return;
    }
    if (!hm_tier_file_open(&d->file, d->path, d->phy_offset, b->size, errp)) {
        return;
    }
    if (!QEMU_IS_ALIGNED(d->offset, d->file.align)) {
        error_setg(errp, "offset=0x%" PRIx64 " of '%s' must be a multiple of"
                   " 0x%" PRIx64 ", the page size of mem-path=%s", d->offset,
                   devmem_id(d), d->file.align, d->path);
        hm_tier_file_close(&d->file);
        return;
    }
    if (!map_into(d, c, errp)) {
        hm_tier_file_close(&d->file);
        return;
    }
    /*
     * An alias, so that the base class takes the backend for initialised;
     * with the RAMBlock of the parent, because host_memory_backend_pagesize()
     * asks for it.  It is never part of an address space.
     */
    memory_region_init_alias(&b->mr, OBJECT(d), name, hm_container_mr(c),
                             d->offset, b->size);
    b->mr.ram_block = hm_container_mr(c)->ram_block;
    host_memory_backend_set_mapped(b, true);
}

static char *get_parent_id(Object *obj, Error **errp)
{
    return g_strdup(MEMORY_BACKEND_DEVMEM(obj)->parent_id);
}

static void set_parent_id(Object *obj, const char *value, Error **errp)
{
    HmDevmem *d = MEMORY_BACKEND_DEVMEM(obj);

    if (devmem_is_mapped(obj, "parent", errp)) {
        return;
    }
    if (d->parent_id) {
        error_setg(errp, "parent=%s: a memory-backend-devmem has one parent,"
                   " and parent=%s was given before", value, d->parent_id);
        return;
    }
    d->parent_id = g_strdup(value);
}

static char *get_path(Object *obj, Error **errp)
{
    return g_strdup(MEMORY_BACKEND_DEVMEM(obj)->path);
}

static void set_path(Object *obj, const char *value, Error **errp)
{
    HmDevmem *d = MEMORY_BACKEND_DEVMEM(obj);

    if (!devmem_is_mapped(obj, "mem-path", errp)) {
        g_free(d->path);
        d->path = g_strdup(value);
    }
}

/* @opaque: offset of the uint64_t in HmDevmem. */
static void get_bytes(Object *obj, Visitor *v, const char *name, void *opaque,
                      Error **errp)
{
    uint64_t *field = (void *)obj + (uintptr_t)opaque;

    visit_type_size(v, name, field, errp);
}

static void set_bytes(Object *obj, Visitor *v, const char *name, void *opaque,
                      Error **errp)
{
    uint64_t *field = (void *)obj + (uintptr_t)opaque;
    uint64_t value;

    if (visit_type_size(v, name, &value, errp) &&
        !devmem_is_mapped(obj, name, errp)) {
        *field = value;
    }
}

static int get_tier(Object *obj, Error **errp)
{
    return MEMORY_BACKEND_DEVMEM(obj)->tier;
}

static void set_tier(Object *obj, int value, Error **errp)
{
    HmDevmem *d = MEMORY_BACKEND_DEVMEM(obj);

    if (!devmem_is_mapped(obj, "tier", errp)) {
        d->tier = value;
        d->has_tier = true;
    }
}

static bool get_clear(Object *obj, Error **errp)
{
    return MEMORY_BACKEND_DEVMEM(obj)->clear;
}

static void set_clear(Object *obj, bool value, Error **errp)
{
    if (!devmem_is_mapped(obj, "clear", errp)) {
        MEMORY_BACKEND_DEVMEM(obj)->clear = value;
    }
}

static void devmem_init(Object *obj)
{
    HmDevmem *d = MEMORY_BACKEND_DEVMEM(obj);

    d->path = g_strdup(DEFAULT_PATH);
    d->clear = true;
    d->file.fd = -1;
    d->parent_obj.merge = false;
    d->parent_obj.share = true;
}

static void devmem_finalize(Object *obj)
{
    HmDevmem *d = MEMORY_BACKEND_DEVMEM(obj);

    if (d->container) {
        hm_container_remove(d->container, &d->parent_obj);
        object_unref(OBJECT(d->container));
    }
    hm_tier_file_close(&d->file);
    g_free(d->parent_id);
    g_free(d->path);
}

static void devmem_class_init(ObjectClass *oc, HmClassData *data)
{
    UserCreatableClass *ucc = USER_CREATABLE_CLASS(oc);

    ucc->complete = devmem_complete;

    object_class_property_add_str(oc, "parent", get_parent_id, set_parent_id);
    object_class_property_set_description(oc, "parent",
        "Id of the memory-backend-container");
    object_class_property_add(oc, "offset", "size", get_bytes, set_bytes,
                              NULL, (void *)offsetof(HmDevmem, offset));
    object_class_property_set_description(oc, "offset",
        "Where the range begins in the parent");
    object_class_property_add_str(oc, "mem-path", get_path, set_path);
    object_class_property_set_description(oc, "mem-path",
        "Device, file or folder to map, or \"memfd\" (default: "
        DEFAULT_PATH ")");
    object_class_property_add(oc, "phy-offset", "size", get_bytes, set_bytes,
                              NULL, (void *)offsetof(HmDevmem, phy_offset));
    object_class_property_set_description(oc, "phy-offset",
        "Where the range begins in mem-path");
    object_class_property_add_enum(oc, "tier", "HybridmemTier",
                                   &HybridmemTier_lookup, get_tier, set_tier);
    object_class_property_set_description(oc, "tier",
        "dram or nvm (default: dram at offset 0, else nvm)");
    object_class_property_add_bool(oc, "clear", get_clear, set_clear);
    object_class_property_set_description(oc, "clear",
        "Overwrite the range with zeroes before the guest starts");
}

static const TypeInfo devmem_info = {
    .name = TYPE_MEMORY_BACKEND_DEVMEM,
    .parent = TYPE_MEMORY_BACKEND,
    .instance_size = sizeof(HmDevmem),
    .instance_init = devmem_init,
    .instance_finalize = devmem_finalize,
    .class_init = devmem_class_init,
};

static void register_types(void)
{
    type_register_static(&devmem_info);
}

type_init(register_types);
