/* The floor: what one core needs for keep-alive answers at the very least. One epoll loop; a request is one read, an answer is
 * one writev of a constant head and body. It parses nothing and checks nothing: no server may be compared to it, only measured by it.
 * With --log it also appends one line for each answer to a buffer that is written when full, as the servers' logs are.
 * Usage: floor PORT FILE [--log PATH] */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { EVENTS = 256, REQUEST = 4096, LOG = 1 << 16, CONNECTIONS = 4096 };

static char head[256];
static size_t head_size, body_size;
static char *body;
static int log_file = -1;
static char log_text[LOG + 256];
static size_t log_size;
/* What of an answer a full socket did not take, by descriptor. */
static size_t unsent[CONNECTIONS];

static void die(const char *what) {
  perror(what);
  exit(1);
}

static void load(const char *path) {
  int file = open(path, O_RDONLY);
  struct stat about;
  if (file < 0 || fstat(file, &about) < 0) die(path);
  body_size = (size_t)about.st_size;
  body = malloc(body_size);
  if (!body || read(file, body, body_size) != (ssize_t)body_size) die(path);
  close(file);
  head_size = (size_t)snprintf(head, sizeof head,
                               "HTTP/1.1 200 OK\r\nContent-Type: image/webp\r\nContent-Length: %zu\r\n"
                               "ETag: \"0123456789abcdef\"\r\nCache-Control: public, max-age=3600\r\n\r\n",
                               body_size);
}

static int listen_on(int port) {
  int one = 1, s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
  setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(s, (struct sockaddr *)&a, sizeof a) < 0 || listen(s, 1024) < 0) die("listen");
  return s;
}

static void note(size_t bytes) {
  if (log_file < 0) return;
  log_size += (size_t)snprintf(log_text + log_size, 256, "127.0.0.1 \"GET /image/unsafe/w:256/plain/local:///photo01.jpg@webp\" 200 %zu hit 0.000\n", bytes);
  if (log_size >= LOG) {
    if (write(log_file, log_text, log_size) < 0) die("log");
    log_size = 0;
  }
}

/* Sends what is left of an answer; 0 when the socket is full or gone. */
static int send_rest(int c) {
  size_t total = head_size + body_size, done = total - unsent[c];
  struct iovec v[2];
  int n = 0;
  if (done < head_size) v[n++] = (struct iovec){head + done, head_size - done}, v[n++] = (struct iovec){body, body_size};
  else v[n++] = (struct iovec){body + (done - head_size), unsent[c]};
  ssize_t w = writev(c, v, n);
  if (w <= 0) return 0;
  unsent[c] -= (size_t)w;
  if (unsent[c] == 0) note(body_size);
  return unsent[c] == 0;
}

static void serve(int poll, int c) {
  char request[REQUEST];
  if (unsent[c]) {
    if (send_rest(c)) epoll_ctl(poll, EPOLL_CTL_MOD, c, &(struct epoll_event){EPOLLIN, {.fd = c}});
    return;
  }
  ssize_t r = read(c, request, sizeof request);
  if (r <= 0) {
    close(c);
    return;
  }
  unsent[c] = head_size + body_size;
  if (!send_rest(c) && unsent[c]) epoll_ctl(poll, EPOLL_CTL_MOD, c, &(struct epoll_event){EPOLLOUT, {.fd = c}});
}

static void greet(int poll, int listener) {
  int one = 1, c;
  while ((c = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
    if (c >= CONNECTIONS) {
      close(c);
      continue;
    }
    setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    unsent[c] = 0;
    epoll_ctl(poll, EPOLL_CTL_ADD, c, &(struct epoll_event){EPOLLIN, {.fd = c}});
  }
}

int main(int argc, char **argv) {
  if (argc < 3) return fputs("usage: floor PORT FILE [--log PATH]\n", stderr), 2;
  load(argv[2]);
  if (argc > 4 && !strcmp(argv[3], "--log")) log_file = open(argv[4], O_WRONLY | O_CREAT | O_APPEND, 0644);
  int listener = listen_on(atoi(argv[1])), poll = epoll_create1(0);
  epoll_ctl(poll, EPOLL_CTL_ADD, listener, &(struct epoll_event){EPOLLIN, {.fd = listener}});
  for (struct epoll_event ready[EVENTS];;) {
    int n = epoll_wait(poll, ready, EVENTS, -1);
    for (int i = 0; i < n; i++)
      if (ready[i].data.fd == listener) greet(poll, listener);
      else serve(poll, ready[i].data.fd);
  }
}
