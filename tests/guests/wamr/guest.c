// Speaks WAMR's own `wasi_nn`: adds what its arguments say with the model `add`, and prints the sums.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define NN(name) __attribute__((import_module("wasi_nn"), import_name(name)))

struct list { const uint32_t *at; uint32_t length; };
// The bytes have no length: the dimensions say how many elements there are.
struct tensor { const struct list *dimensions; uint8_t type; const void *data; };
enum { F32 = 1 };

NN("load_by_name") uint32_t load_by_name(const char *name, uint32_t length, uint32_t *graph);
NN("init_execution_context") uint32_t init_execution_context(uint32_t graph, uint32_t *context);
NN("set_input") uint32_t set_input(uint32_t context, uint32_t index, const struct tensor *tensor);
NN("compute") uint32_t compute(uint32_t context);
// `size` counts elements of four bytes: what the buffer holds, then what was written.
NN("get_output") uint32_t get_output(uint32_t context, uint32_t index, void *buffer, uint32_t *size);

static void must(const char *what, uint32_t error) {
    if (error) {
        fprintf(stderr, "%s: error %u\n", what, error);
        exit((int)error);
    }
}

int main(int count, char **arguments) {
    uint32_t graph, context, dimensions[] = {1, 3}, size = 8;
    struct list shape = {dimensions, 2};
    float values[2][3] = {0}, sums[8];
    for (int i = 1; i < count && i <= 6; i++) values[(i - 1) / 3][(i - 1) % 3] = strtof(arguments[i], NULL);
    must("load", load_by_name("add", 3, &graph));
    must("begin", init_execution_context(graph, &context));
    for (uint32_t index = 0; index < 2; index++) {
        struct tensor tensor = {&shape, F32, values[index]};
        must("input", set_input(context, index, &tensor));
    }
    must("compute", compute(context));
    must("output", get_output(context, 0, sums, &size));
    for (uint32_t i = 0; i < size; i++) printf("%g\n", sums[i]);
    return 0;
}
