/* Makes every fsync and fdatasync of a process as slow as the file SLOW_DISK_FILE says, in ms. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void pause_first(void)
{
    const char *path = getenv("SLOW_DISK_FILE");
    FILE *file = path ? fopen(path, "r") : NULL;
    long pause_ms = 0;
    if (file == NULL)
        return;
    if (fscanf(file, "%ld", &pause_ms) != 1)
        pause_ms = 0;
    fclose(file);
    if (pause_ms > 0)
        usleep((useconds_t)pause_ms * 1000);
}

int fsync(int descriptor)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    pause_first();
    return real(descriptor);
}

int fdatasync(int descriptor)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    pause_first();
    return real(descriptor);
}
