/* What may stand in a row band: the shapes for which one thread can run through the rows of a chain
 * of convolutions, keeping the last few rows of each result. In: groups as fusion made them. Out: a
 * yes or no, from the graph alone; whether it pays is fuse_band.c's question. */
#include "passes/band.h"

#include "base/checked.h"
#include "passes/brief_conv.h"

#define MOST_EXTENT 16   /* rows and columns of a window: runs at a row's ends stand in the code */
#define LONGEST_SUM 4096 /* longer ones are cut into chunks by products on their own */
#define ROWS 1           /* axis of four */
#define MOST_STEP 4  /* 8 are no faster, 1 is 3 % slower: kernels are read again for every step */
#define RING_SHARE 4 /* of the second cache for the rows kept, where one step needs less */

static bool is_nhwc(kiln_ints axes)
{
    static const int64_t expected[] = {0, 3, 1, 2};
    for (uint32_t i = 0; i < 4; i++)
        if (axes.n != 4 || axes.at[i] != expected[i]) return false;
    return true;
}

kiln_band_rows kiln_band_rows_of(const kiln_graph *graph, kiln_value anchor)
{
    const kiln_node *node = kiln_graph_node(graph, anchor);
    kiln_band_rows rows = {.out = node->type->dims[ROWS]};
    if (node->op == KILN_OP_convolution) {
        const kiln_type *kernel = kiln_graph_type(graph, node->inputs[1]);
        const kiln_type *input = kiln_graph_type(graph, node->inputs[0]);
        rows.in = input->dims[node->attrs->conv.input_axes.at[2]];
        rows.stride = node->attrs->conv.strides.at[0];
        rows.low = node->attrs->conv.low.at[0];
        int64_t taps = kernel->dims[node->attrs->conv.kernel_axes.at[2]];
        rows.extent = (taps - 1) * node->attrs->conv.rhs_dilation.at[0] + 1;
        return rows;
    }
    rows.in = kiln_graph_type(graph, node->inputs[0])->dims[ROWS];
    rows.stride = node->attrs->window.strides.at[ROWS];
    rows.low = node->attrs->window.low.at[ROWS];
    rows.extent =
        (node->attrs->window.sizes.at[ROWS] - 1) * node->attrs->window.dilations.at[ROWS] + 1;
    return rows;
}

/* Values lie in memory as they are computed in, so that a row kept in a local is the row that would
 * have been stored. */
static bool is_kept_exactly(const kiln_graph *graph, kiln_value value)
{
    kiln_dtype dtype = kiln_graph_type(graph, value)->dtype;
    return dtype == KILN_f32 || dtype == KILN_f64;
}

/* One output, at the index of the anchor's result, which has rows. */
static bool has_rows(const kiln_graph *graph, const kiln_group *group)
{
    if (group->n_outputs != 1 || !group->anchor.id) return false;
    kiln_value output = group->outputs[0].value;
    const kiln_node *node = kiln_graph_node(graph, output);
    const kiln_type *type = kiln_graph_type(graph, group->anchor);
    if (output.id != group->anchor.id && kiln_node_row(node)->class_ != KILN_ELEMENTWISE)
        return false;
    if (type->rank != 4 || type->n_elements == 0) return false;
    return is_kept_exactly(graph, output) && is_kept_exactly(graph, group->anchor);
}

static bool is_small(int64_t size, int64_t dilation, int64_t low, int64_t high)
{
    return size <= MOST_EXTENT && (size - 1) * dilation < MOST_EXTENT && low >= 0 && high >= 0 &&
           low <= (size - 1) * dilation && high <= (size - 1) * dilation;
}

/* The kernel is dense or in panels of plain numbers, and no other algorithm is named. */
static bool is_direct_conv(const kiln_graph *graph, const kiln_group *group,
                           const kiln_machine *machine)
{
    const kiln_node *node = kiln_graph_node(graph, group->anchor);
    if (group->kind != KILN_GROUP_CONV || !has_rows(graph, group)) return false;
    if (kiln_conv_choose_form(graph, group->anchor, machine) != KILN_CONV_LONG) return false;
    const kiln_type *input = kiln_graph_type(graph, node->inputs[0]);
    if (node->attrs->conv.winograd || !is_nhwc(node->attrs->conv.output_axes)) return false;
    if (input->dtype != node->type->dtype || input->n_elements == 0) return false;
    if (node->attrs->conv.accumulate != node->type->dtype) return false;
    for (uint32_t i = 0; i < group->n_inputs; i++)
        if (group->inputs[i].consumer.id && group->inputs[i].format != KILN_FORMAT_PANEL16)
            return false;
    return true;
}

static bool is_depthwise(const kiln_graph *graph, const kiln_node *node)
{
    int64_t groups = node->attrs->conv.groups;
    const kiln_type *input = kiln_graph_type(graph, node->inputs[0]);
    if (groups < 2 || !is_nhwc(node->attrs->conv.input_axes)) return false;
    if (input->dims[3] != groups || node->type->dims[3] != groups) return false;
    for (uint32_t i = 0; i < 2; i++) {
        int64_t size =
            kiln_graph_type(graph, node->inputs[1])->dims[node->attrs->conv.kernel_axes.at[i + 2]];
        if (node->attrs->conv.lhs_dilation.at[i] != 1 ||
            !is_small(size, node->attrs->conv.rhs_dilation.at[i], node->attrs->conv.low.at[i],
                      node->attrs->conv.high.at[i]))
            return false;
    }
    return true;
}

/* A product of one group whose sums are one chain each. */
static bool is_product(const kiln_graph *graph, const kiln_node *node)
{
    const kiln_type *kernel = kiln_graph_type(graph, node->inputs[1]);
    int64_t features = kernel->dims[node->attrs->conv.kernel_axes.at[0]];
    return node->attrs->conv.groups == 1 && features > 0 && node->type->n_elements >= 16 &&
           kernel->n_elements / features <= LONGEST_SUM;
}

/* 1 x 1, so that a row of the result is a row of the operand. */
static bool is_pointwise_product(const kiln_graph *graph, const kiln_node *node)
{
    const kiln_type *input = kiln_graph_type(graph, node->inputs[0]);
    if (!is_product(graph, node) || !is_nhwc(node->attrs->conv.input_axes)) return false;
    for (uint32_t i = 0; i < 2; i++) {
        int64_t axis = node->attrs->conv.kernel_axes.at[i + 2];
        if (kiln_graph_type(graph, node->inputs[1])->dims[axis] != 1 ||
            input->dims[i + 1] != node->type->dims[i + 1] || node->attrs->conv.strides.at[i] != 1 ||
            node->attrs->conv.low.at[i] || node->attrs->conv.lhs_dilation.at[i] != 1)
            return false;
    }
    return true;
}

/* A window over rows and columns only. */
static bool is_pool(const kiln_graph *graph, const kiln_group *group)
{
    const kiln_node *node = kiln_graph_node(graph, group->anchor);
    if (group->kind != KILN_GROUP_WINDOW || !has_rows(graph, group)) return false;
    if (node->attrs->family != KILN_FAMILY_window || node->n_inputs != 1) return false;
    for (uint32_t i = 0; i < 4; i++) {
        int64_t size = node->attrs->window.sizes.at[i], low = node->attrs->window.low.at[i];
        int64_t high = node->attrs->window.high.at[i], stride = node->attrs->window.strides.at[i];
        if (!is_small(size, node->attrs->window.dilations.at[i], low, high)) return false;
        if (i % 3 == 0 && (size != 1 || stride != 1)) return false;
    }
    return true;
}

static bool is_stored(const kiln_group *group, kiln_value value)
{
    const kiln_operand plain = {.value = value};
    for (uint32_t i = 0; i < group->n_inputs; i++)
        if (kiln_operand_compare(group->inputs[i], plain) == 0) return true;
    return false;
}

bool kiln_band_may_begin(const kiln_graph *graph, const kiln_group *group,
                         const kiln_machine *machine)
{
    if (!is_direct_conv(graph, group, machine)) return false;
    const kiln_node *node = kiln_graph_node(graph, group->anchor);
    bool is_plain = is_stored(group, node->inputs[0]);
    return is_product(graph, node) || (is_plain && is_depthwise(graph, node));
}

/* Whether the anchor alone reads the value. */
static bool is_read_once(const kiln_graph *graph, const kiln_group *group, kiln_value value)
{
    for (uint32_t i = 0; i < group->n_nodes; i++) {
        const kiln_node *node = kiln_graph_node(graph, group->nodes[i]);
        bool is_anchor = group->nodes[i].id == group->anchor.id;
        for (uint32_t j = is_anchor ? 1 : 0; j < node->n_inputs; j++)
            if (node->inputs[j].id == value.id) return false;
    }
    return true;
}

bool kiln_band_may_follow(const kiln_graph *graph, const kiln_group *producer,
                          const kiln_group *consumer, const kiln_machine *machine)
{
    if (!consumer->anchor.id) return false;
    const kiln_node *node = kiln_graph_node(graph, consumer->anchor);
    bool is_right = is_pool(graph, consumer);
    if (is_direct_conv(graph, consumer, machine))
        is_right = is_depthwise(graph, node) || is_pointwise_product(graph, node);
    kiln_value between = producer->outputs[0].value;
    return is_right && node->inputs[0].id == between.id && is_read_once(graph, consumer, between);
}

/* Multiplications of a row of the anchor's result, or comparisons. */
static double row_work(const kiln_graph *graph, kiln_value anchor)
{
    const kiln_node *node = kiln_graph_node(graph, anchor);
    double elements = (double)(node->type->dims[2] * node->type->dims[3]), each = 0;
    if (node->op == KILN_OP_convolution) {
        const kiln_type *kernel = kiln_graph_type(graph, node->inputs[1]);
        int64_t features = kernel->dims[node->attrs->conv.kernel_axes.at[0]];
        each = (double)kernel->n_elements / (double)(features ? features : 1);
    } else {
        each = (double)(node->attrs->window.sizes.at[1] * node->attrs->window.sizes.at[2]);
    }
    return elements * each;
}

/* Rows that each member makes when the last one makes `step`, and the bytes of those kept. */
static void find_windows(const kiln_graph *graph, const kiln_group *members, uint32_t n,
                         kiln_band_cut *cut)
{
    int64_t window = cut->step;
    cut->ring_bytes = 0;
    for (uint32_t i = n; i-- > 0;) {
        kiln_band_rows rows = kiln_band_rows_of(graph, members[i].anchor);
        const kiln_type *made = kiln_graph_type(graph, members[i].outputs[0].value);
        cut->window[i] = window < rows.out ? window : rows.out;
        window = (window - 1) * rows.stride + rows.extent;
        int64_t row_bytes = made->bytes / made->dims[0] / made->dims[ROWS];
        if (i + 1 < n) cut->ring_bytes += cut->window[i] * row_bytes;
    }
}

kiln_band_cut kiln_band_choose(const kiln_schedule *schedule, const kiln_group *members, uint32_t n)
{
    const kiln_graph *graph = schedule->graph;
    kiln_band_cut cut = {.rows = 1, .step = 1};
    const kiln_type *last = kiln_graph_type(graph, members[n - 1].anchor);
    int64_t batch = last->dims[0], out = last->dims[ROWS], stride = 1;
    int64_t threads = schedule->n_threads ? schedule->n_threads : 1;
    double all = 0, halo = 0, best = -1, strides[KILN_MAX_BAND];
    find_windows(graph, members, n, &cut);
    for (uint32_t i = n; i-- > 0;) {
        double work = row_work(graph, members[i].anchor);
        strides[i] = (double)stride;
        all += work * (double)stride;
        halo += work * (double)kiln_max_i64(0, cut.window[i] - stride);
        stride *= kiln_band_rows_of(graph, members[i].anchor).stride;
    }
    for (int64_t rows = 1; rows <= out; rows++) {
        int64_t tiles = batch * kiln_ceil_div(out, rows);
        double share = (double)kiln_ceil_div(tiles, threads) * ((double)rows * all + halo);
        if (best >= 0 && share > best) continue; /* the largest of equal ones */
        best = share;
        cut.rows = rows;
    }
    cut.n_blocks = kiln_ceil_div(out, cut.rows);
    for (uint32_t i = 0; i < n; i++) {
        double more = (double)cut.window[i] - strides[i];
        bool is_cut = cut.n_blocks > 1 && more > 0;
        cut.repeated[i] = is_cut ? more / ((double)cut.rows * strides[i]) : 0;
    }
    for (int64_t step = 2; step <= kiln_min_i64(MOST_STEP, cut.rows); step++) {
        kiln_band_cut wide = cut;
        wide.step = step;
        find_windows(graph, members, n, &wide);
        if (wide.ring_bytes > schedule->machine->l2_bytes / RING_SHARE) break;
        cut = wide;
    }
    return cut;
}
