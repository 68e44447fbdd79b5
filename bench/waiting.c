/*
 * A server that only waits: the least that a conversation over two sockets takes.
 *
 *     waiting REDIS_SOCKET [WORD REPLY REQUEST MICROSECONDS]...
 *
 * It looks for the words in what a client sends, in this order. For the first that is there it sends what the file
 * REQUEST has to Redis and waits for an answer, unless the file is empty. Then it stays busy for so many microseconds, and
 * sends what the file REPLY has: nothing is parsed, and no model runs. It never sleeps while it has a client, of which
 * it has one at a time.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define MOST 65536

struct bytes {
    char *data;
    size_t size;
};

struct canned {
    const char *word;
    struct bytes reply, request;
    long nanoseconds;
};

static char received[MOST];

static void must(int holds, const char *what) {
    if (!holds) {
        perror(what);
        exit(1);
    }
}

static struct bytes read_file(const char *path) {
    struct bytes found = {malloc(MOST), 0};
    FILE *file = fopen(path, "rb");
    must(file != NULL, path);
    found.size = fread(found.data, 1, MOST, file);
    fclose(file);
    return found;
}

static ssize_t receive(int from) {
    ssize_t size;
    do
        size = recv(from, received, MOST, MSG_DONTWAIT);
    while (size < 0 && errno == EAGAIN);
    return size;
}

static void stay_busy(long nanoseconds) {
    struct timespec began, now;
    clock_gettime(CLOCK_MONOTONIC, &began);
    do
        clock_gettime(CLOCK_MONOTONIC, &now);
    while ((now.tv_sec - began.tv_sec) * 1000000000L + now.tv_nsec - began.tv_nsec < nanoseconds);
}

static void answer(int client, int redis, const struct canned *canned) {
    if (canned->request.size) {
        must(send(redis, canned->request.data, canned->request.size, 0) > 0, "send to Redis");
        must(receive(redis) > 0, "receive from Redis");
    }
    if (canned->nanoseconds)
        stay_busy(canned->nanoseconds);
    send(client, canned->reply.data, canned->reply.size, MSG_NOSIGNAL);
}

static void serve(int client, int redis, const struct canned *all, int count) {
    ssize_t size;
    while ((size = receive(client)) > 0) {
        int found = 0;
        while (found < count && !memmem(received, size, all[found].word, strlen(all[found].word)))
            found++;
        if (found < count)
            answer(client, redis, &all[found]);
        else
            send(client, "+OK\r\n", 5, MSG_NOSIGNAL);
    }
}

static int connect_to(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int redis = socket(AF_UNIX, SOCK_STREAM, 0);
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    must(connect(redis, (struct sockaddr *)&address, sizeof address) == 0, path);
    return redis;
}

static int listen_anywhere(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listening = socket(AF_INET, SOCK_STREAM, 0);
    must(bind(listening, (struct sockaddr *)&address, size) == 0, "bind");
    must(listen(listening, 8) == 0, "listen");
    getsockname(listening, (struct sockaddr *)&address, &size);
    printf("ready: 127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return listening;
}

int main(int count, char **words) {
    int all = (count - 2) / 4, redis = connect_to(words[1]), one = 1;
    struct canned *canned = calloc(all + 1, sizeof *canned);
    for (int i = 0; i < all; i++) {
        char **of = words + 2 + 4 * i;
        canned[i] = (struct canned){of[0], read_file(of[1]), read_file(of[2]), atol(of[3]) * 1000};
    }
    for (int listening = listen_anywhere();;) {
        int client = accept(listening, NULL, NULL);
        must(client >= 0, "accept");
        setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        serve(client, redis, canned, all);
        close(client);
    }
}
