/* Logs what a process does to the files of one folder, so that a power cut can be played back.

   DISK_LOG_FOLDER names the folder, DISK_LOG_FILE the log. Each record is a header, the file's name
   and the bytes that were written, if any. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

struct head {
  int32_t kind; /* w(rite), t(runcate), s(ync), u(nlink) */
  int32_t name;
  int64_t at;
  int64_t length;
};

static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER;
static const char *folder;
static int log_file = -1;

static void put(const void *bytes, size_t length) {
  const char *from = bytes;
  while (length > 0) {
    ssize_t done = syscall(SYS_write, log_file, from, length);
    if (done <= 0) _exit(99);
    from += done;
    length -= (size_t)done;
  }
}

__attribute__((constructor)) static void begin(void) {
  folder = getenv("DISK_LOG_FOLDER");
  const char *file = getenv("DISK_LOG_FILE");
  if (folder && file)
    log_file = (int)syscall(SYS_openat, AT_FDCWD, file, O_WRONLY | O_CREAT | O_APPEND, 0600);
}

static int is_ours(const char *path) {
  size_t length = folder ? strlen(folder) : 0;
  return log_file >= 0 && length && !strncmp(path, folder, length) && path[length] == '/';
}

static int path_of(int file, char *path, size_t size) {
  char link[64] = "/proc/self/fd/", digits[16];
  int at = 0, n = 14;
  if (log_file < 0 || file < 0) return 0;
  do digits[at++] = (char)('0' + file % 10);
  while ((file /= 10));
  while (at) link[n++] = digits[--at];
  link[n] = 0;
  ssize_t length = readlink(link, path, size - 1);
  if (length <= 0) return 0;
  path[length] = 0;
  return is_ours(path);
}

static void note(char kind, const char *path, int64_t at, const void *bytes, int64_t length) {
  struct head head = {kind, (int32_t)strlen(path), at, length};
  put(&head, sizeof head);
  put(path, (size_t)head.name);
  if (bytes) put(bytes, (size_t)length);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define WRITES_AT(name, offset_type)                                              \
  ssize_t name(int file, const void *bytes, size_t length, offset_type at) {      \
    char path[4096];                                                              \
    if (!path_of(file, path, sizeof path)) return REAL(name)(file, bytes, length, at); \
    pthread_mutex_lock(&one);                                                     \
    ssize_t done = REAL(name)(file, bytes, length, at);                           \
    if (done > 0) note('w', path, at, bytes, done);                               \
    pthread_mutex_unlock(&one);                                                   \
    return done;                                                                  \
  }
WRITES_AT(pwrite, off_t)
WRITES_AT(pwrite64, off64_t)

ssize_t write(int file, const void *bytes, size_t length) {
  char path[4096];
  if (!path_of(file, path, sizeof path)) return REAL(write)(file, bytes, length);
  pthread_mutex_lock(&one);
  ssize_t done = REAL(write)(file, bytes, length);
  if (done > 0) note('w', path, lseek(file, 0, SEEK_CUR) - done, bytes, done);
  pthread_mutex_unlock(&one);
  return done;
}

#define SYNCS(name)                                                \
  int name(int file) {                                             \
    char path[4096];                                               \
    if (!path_of(file, path, sizeof path)) return REAL(name)(file); \
    pthread_mutex_lock(&one);                                      \
    int done = REAL(name)(file);                                   \
    if (!done) note('s', path, 0, 0, 0);                           \
    pthread_mutex_unlock(&one);                                    \
    return done;                                                   \
  }
SYNCS(fsync)
SYNCS(fdatasync)

#define TRUNCATES(name, offset_type)                                             \
  int name(int file, offset_type length) {                                       \
    char path[4096];                                                             \
    if (!path_of(file, path, sizeof path)) return REAL(name)(file, length);      \
    pthread_mutex_lock(&one);                                                    \
    int done = REAL(name)(file, length);                                         \
    if (!done) note('t', path, length, 0, 0);                                    \
    pthread_mutex_unlock(&one);                                                  \
    return done;                                                                 \
  }
TRUNCATES(ftruncate, off_t)
TRUNCATES(ftruncate64, off64_t)

int unlink(const char *path) {
  pthread_mutex_lock(&one);
  int done = REAL(unlink)(path);
  if (!done && is_ours(path)) note('u', path, 0, 0, 0);
  pthread_mutex_unlock(&one);
  return done;
}
