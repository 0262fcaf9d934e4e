/* Keeps apart what was written and what a power loss would leave.

   Preloaded into a process, it keeps a mirror of everything below DISK_ROOT that was synced:

     files/KEY     content of a file when its last fsync or fdatasync began
     folders/KEY   entries of a directory when its last fsync began: a line "d KEY NAME" or
                   "f KEY NAME" each

   KEY is inode number and birth time, since numbers are used again. A create, rename or
   unlink counts only with an fsync of the directory, whatever else was synced: stricter than
   ext4 and XFS, as strict as POSIX. What was never synced is an empty file or directory.

   The copy is made before the real fsync is called, so what is written meanwhile may be in it
   in part, as on a disk. A file longer than WHOLE_BYTES is taken to be only appended to, which
   is so for every file of RocksDB (no mmap, no recycled logs: seen with strace); shorter ones
   are copied whole. A process killed in the middle of a copy leaves the old copy or, of a
   long file, a longer beginning of the new one: no fsync has returned for it.

   sync_file_range promises nothing and is not looked at.

   Files in the directory DISK_FAULTS order faults, from the moment they are there:

     lie     fsync returns 0 and nothing becomes durable
     error   fsync returns EIO
     once    the next fsync returns EIO, and takes the file away
     slow    fsync takes as many milliseconds longer as the file says
     hang    fsync returns when the file is gone

   Without DISK_MIRROR there are faults alone. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define WHOLE_BYTES (1 << 20)
#define KEY_BYTES 64

static int ordered(const char *fault) {
    const char *faults = getenv("DISK_FAULTS");
    char path[PATH_MAX];
    if (faults == NULL) return 0;
    snprintf(path, sizeof path, "%s/%s", faults, fault);
    return access(path, F_OK) == 0;
}

/* The first who takes the file away is the one who is hit. */
static int ordered_once(void) {
    const char *faults = getenv("DISK_FAULTS");
    char path[PATH_MAX];
    if (faults == NULL) return 0;
    snprintf(path, sizeof path, "%s/once", faults);
    return unlink(path) == 0;
}

static void dawdle(void) {
    char path[PATH_MAX];
    long milliseconds = 0;
    snprintf(path, sizeof path, "%s/slow", getenv("DISK_FAULTS"));
    FILE *order = fopen(path, "re");
    if (order == NULL) return; /* repaired meanwhile */
    if (fscanf(order, "%ld", &milliseconds) != 1) milliseconds = 0;
    fclose(order);
    struct timespec moment = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    nanosleep(&moment, NULL);
}

static int key_of(int folder, const char *name, int flags, char *key, mode_t *mode) {
    struct statx found;
    if (statx(folder, name, flags | AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS | STATX_BTIME, &found))
        return -1;
    *mode = found.stx_mode;
    snprintf(key, KEY_BYTES, "%llu-%lld.%09u", (unsigned long long)found.stx_ino,
             (long long)found.stx_btime.tv_sec, found.stx_btime.tv_nsec);
    return 0;
}

/* Copy bytes from an offset on; what fails here must not look like a success. */
static void copy(int from, int to, off_t offset) {
    char block[1 << 16];
    ssize_t count;
    while ((count = pread(from, block, sizeof block, offset)) > 0) {
        if (pwrite(to, block, (size_t)count, offset) != count) abort();
        offset += count;
    }
    if (count < 0) abort();
}

/* Open a second handle: the one given may not be readable. */
static void mirror_file(const char *path, const char *target, const char *draft) {
    struct stat there, mirrored;
    int from = open(path, O_RDONLY | O_CLOEXEC);
    if (from < 0) return; /* unlinked meanwhile: nobody can meet it after a power loss */
    if (fstat(from, &there)) abort();
    int appended = there.st_size > WHOLE_BYTES && stat(target, &mirrored) == 0 &&
                   mirrored.st_size <= there.st_size;
    int to = open(appended ? target : draft, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (to < 0) abort();
    copy(from, to, appended ? mirrored.st_size : 0);
    close(from);
    close(to);
    if (!appended && rename(draft, target)) abort();
}

static void mirror_folder(int handle, const char *path, const char *target, const char *draft) {
    DIR *entries = opendir(path);
    FILE *list = fopen(draft, "we");
    struct dirent *entry;
    char key[KEY_BYTES];
    mode_t mode;
    if (entries == NULL || list == NULL) abort();
    while ((entry = readdir(entries)) != NULL) {
        const char *name = entry->d_name;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) continue;
        if (key_of(handle, name, 0, key, &mode)) continue; /* unlinked meanwhile */
        fprintf(list, "%c %s %s\n", S_ISDIR(mode) ? 'd' : 'f', key, name);
    }
    closedir(entries);
    if (fclose(list) || rename(draft, target)) abort();
}

static void mirror(int handle) {
    const char *root = getenv("DISK_ROOT"), *place = getenv("DISK_MIRROR");
    char link[64], path[PATH_MAX], target[PATH_MAX], draft[PATH_MAX], key[KEY_BYTES];
    mode_t mode;
    if (root == NULL || place == NULL) return;
    snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return;
    path[length] = 0;
    size_t prefix = strlen(root);
    if (strncmp(path, root, prefix) || (path[prefix] != '/' && path[prefix] != 0)) return;
    if (key_of(handle, "", AT_EMPTY_PATH, key, &mode)) abort();
    snprintf(target, sizeof target, "%s/%s/%s", place, S_ISDIR(mode) ? "folders" : "files", key);
    snprintf(draft, sizeof draft, "%s/draft-%ld", place, syscall(SYS_gettid));
    if (S_ISDIR(mode))
        mirror_folder(handle, path, target, draft);
    else
        mirror_file(link, target, draft);
}

static int synced(const char *name, int handle) {
    if (ordered("error") || ordered_once()) {
        errno = EIO;
        return -1;
    }
    while (ordered("hang")) {
        struct timespec moment = {0, 10000000};
        nanosleep(&moment, NULL);
    }
    if (ordered("slow")) dawdle();
    if (ordered("lie")) return 0;
    int before = errno;
    mirror(handle);
    errno = before;
    return ((int (*)(int))dlsym(RTLD_NEXT, name))(handle);
}

int fsync(int handle) { return synced("fsync", handle); }
int fdatasync(int handle) { return synced("fdatasync", handle); }
