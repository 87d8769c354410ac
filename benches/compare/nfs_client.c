/*
 * A read-only NFSv3 mount by FUSE: libnfs on one side, libfuse on the other, nothing between.
 *
 *   nfs_client CONNECTIONS URL MOUNTPOINT [libfuse options]
 *
 * The leanest client that a machine without the kernel's own can have, built by the comparison where Debian has no
 * package of one. Each thread of libfuse keeps to one connection, since libnfs takes one caller at a time.
 */
#define FUSE_USE_VERSION 31
#define _FILE_OFFSET_BITS 64
#include <errno.h>
#include <fuse3/fuse.h>
#include <nfsc/libnfs.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CONNECTIONS_MAX = 16 };

struct connection {
    struct nfs_context *nfs;
    pthread_mutex_t lock;
};

/* A file, opened on those connections whose threads read it. */
struct handle {
    struct nfsfh *on[CONNECTIONS_MAX];
};

static struct connection connections[CONNECTIONS_MAX];
static int connection_count;
static int threads_seen;
static __thread int own = -1;

static int take(void)
{
    if (own < 0)
        own = __sync_fetch_and_add(&threads_seen, 1) % connection_count;
    pthread_mutex_lock(&connections[own].lock);
    return own;
}

static void give(int at)
{
    pthread_mutex_unlock(&connections[at].lock);
}

static int client_getattr(const char *path, struct stat *out, struct fuse_file_info *info)
{
    struct nfs_stat_64 found;
    int at = take();
    int failed = nfs_lstat64(connections[at].nfs, path, &found);
    give(at);
    (void)info;
    if (failed < 0)
        return failed;
    memset(out, 0, sizeof *out);
    out->st_ino = found.nfs_ino;
    out->st_mode = found.nfs_mode;
    out->st_nlink = found.nfs_nlink;
    out->st_uid = found.nfs_uid;
    out->st_gid = found.nfs_gid;
    out->st_size = found.nfs_size;
    out->st_blksize = found.nfs_blksize;
    out->st_blocks = found.nfs_blocks;
    out->st_mtime = found.nfs_mtime;
    out->st_ctime = found.nfs_ctime;
    out->st_atime = found.nfs_atime;
    return 0;
}

static int client_open(const char *path, struct fuse_file_info *info)
{
    struct handle *handle = calloc(1, sizeof *handle);
    if (!handle)
        return -ENOMEM;
    int at = take();
    int failed = nfs_open(connections[at].nfs, path, 0, &handle->on[at]);
    give(at);
    if (failed < 0) {
        free(handle);
        return failed;
    }
    info->fh = (uintptr_t)handle;
    return 0;
}

static int client_read(const char *path, char *out, size_t size, off_t offset, struct fuse_file_info *info)
{
    struct handle *handle = (struct handle *)(uintptr_t)info->fh;
    int at = take(), got = 0;
    size_t done = 0;
    if (!handle->on[at])
        got = nfs_open(connections[at].nfs, path, 0, &handle->on[at]);
    while (got >= 0 && done < size) {
        got = nfs_pread(connections[at].nfs, handle->on[at], offset + done, size - done, out + done);
        if (got <= 0)
            break;
        done += (size_t)got;
    }
    give(at);
    return got < 0 ? got : (int)done;
}

static int client_release(const char *path, struct fuse_file_info *info)
{
    struct handle *handle = (struct handle *)(uintptr_t)info->fh;
    (void)path;
    for (int at = 0; at < connection_count; at++) {
        if (!handle->on[at])
            continue;
        pthread_mutex_lock(&connections[at].lock);
        nfs_close(connections[at].nfs, handle->on[at]);
        pthread_mutex_unlock(&connections[at].lock);
    }
    free(handle);
    return 0;
}

static int client_readdir(const char *path, void *out, fuse_fill_dir_t fill, off_t offset,
                          struct fuse_file_info *info, enum fuse_readdir_flags flags)
{
    struct nfsdir *folder;
    struct nfsdirent *entry;
    int at = take();
    int failed = nfs_opendir(connections[at].nfs, path, &folder);
    (void)offset, (void)info, (void)flags;
    if (failed >= 0) {
        while ((entry = nfs_readdir(connections[at].nfs, folder))) {
            struct stat known;
            memset(&known, 0, sizeof known);
            known.st_ino = entry->inode;
            known.st_mode = entry->mode;
            fill(out, entry->name, &known, 0, 0);
        }
        nfs_closedir(connections[at].nfs, folder);
    }
    give(at);
    return failed < 0 ? failed : 0;
}

static void *client_init(struct fuse_conn_info *connection, struct fuse_config *config)
{
    connection->max_readahead = 1 << 20;
    connection->max_background = 64;
    config->entry_timeout = 1;
    config->attr_timeout = 1;
    return NULL;
}

static const struct fuse_operations operations = {
    .getattr = client_getattr,
    .open = client_open,
    .read = client_read,
    .release = client_release,
    .readdir = client_readdir,
    .init = client_init,
};

int main(int count, char **words)
{
    if (count < 4 || (connection_count = atoi(words[1])) < 1 || connection_count > CONNECTIONS_MAX) {
        fprintf(stderr, "%s CONNECTIONS(1-%d) URL MOUNTPOINT [libfuse options]\n", words[0], CONNECTIONS_MAX);
        return 2;
    }
    for (int at = 0; at < connection_count; at++) {
        struct nfs_context *nfs = nfs_init_context();
        struct nfs_url *url = nfs ? nfs_parse_url_dir(nfs, words[2]) : NULL;
        if (!url || nfs_mount(nfs, url->server, url->path)) {
            fprintf(stderr, "mount %s: %s\n", words[2], nfs ? nfs_get_error(nfs) : "no memory");
            return 1;
        }
        connections[at].nfs = nfs;
        pthread_mutex_init(&connections[at].lock, NULL);
    }
    words[2] = words[0];
    return fuse_main(count - 2, words + 2, &operations, NULL);
}
