// The study's pictures, drawn by Vega-Lite as SVG files.
import * as vega from "vega";
import { compile, type TopLevelSpec } from "vega-lite";
import { writeFileSafely } from "../../src/tensor/files.ts";
import { ARMS, DOMAINS, type Domain, RATES, ratesOf, tuningId } from "./experiments.ts";
import { CLOSING, type Group, METHODS, type Results, seedsOf, TARGETS } from "./groups.ts";

/** Okabe and Ito's colours, which all eyes can tell apart. */
const COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"];
const TEXT = { near: "other prose (a novel)", far: "code", small: "10 kB of it, stopped early" };
const LEARNT = "loss on the new text (nats per byte)";
const FORGOT = "loss on speeches, which the base knows";

const config = { background: "white", view: { stroke: null }, range: { category: COLOURS } };
const numbers = { type: "quantitative", scale: { zero: false } } as const;

/**
 * Draws all pictures of which there are results.
 * @param folder  gets the SVG files
 * @returns their names
 */
export async function drawAll(results: Results, folder: string): Promise<string[]> {
  const drawn = Object.entries({
    rates: rates(results),
    frontier: frontier(results),
    rank: rank(results),
    sensitivity: sensitivity(results),
    targets: bars(results, TARGETS),
    closing: bars(results, CLOSING),
    small: small(results),
    methods: bars(results, METHODS),
  });
  for (const [name, spec] of drawn) {
    const view = new vega.View(vega.parse(compile({ ...spec, config, padding: 12 }).spec), {
      renderer: "none",
    });
    await writeFileSafely(`${folder}/${name}.svg`, `${await view.toSVG()}\n`);
    view.finalize();
  }
  return drawn.map(([name]) => name);
}

/** Loss by learning rate: where LoRA's best lies, and where that of full fine-tuning. */
function rates(results: Results): TopLevelSpec {
  const values = DOMAINS.flatMap((domain) =>
    ARMS.flatMap((arm) =>
      ratesOf(domain, arm).map((lr) => {
        const loss = results.get(tuningId(domain, arm, lr))?.valid.after;
        return { domain: TEXT[domain], arm: arm === "lora" ? "LoRA r 8" : "full", lr, loss };
      }),
    ),
  );
  return {
    data: { values: values.filter(({ loss }) => loss !== undefined && loss < 3) },
    facet: { column: { field: "domain", title: null, sort: Object.values(TEXT) } },
    resolve: { scale: { y: "independent" } },
    spec: {
      width: 280,
      height: 240,
      mark: { type: "line", point: { size: 60 } },
      encoding: {
        x: { field: "lr", type: "quantitative", scale: { type: "log" }, title: "learning rate" },
        y: { field: "loss", ...numbers, title: LEARNT },
        color: { field: "arm", type: "nominal", title: null },
      },
    },
  };
}

/** What was learnt against what was forgotten, a point a seed. */
function frontier(results: Results): TopLevelSpec {
  const named: readonly [string, string, Domain][] = [
    ["main/near-lora", "LoRA r 8", "near"],
    ["near/mlp", "LoRA+, MLP alone", "near"],
    ["main/near-full", "full", "near"],
    ["main/far-lora", "LoRA r 8", "far"],
    ["main/far-full", "full", "far"],
    ["replay/far-lora", "LoRA, 25 % replay", "far"],
    ["replay/far-full", "full, 25 % replay", "far"],
  ];
  const values = named.flatMap(([id, name, domain]) =>
    seedsOf(results, id).map(({ valid, general }) => ({
      domain: TEXT[domain],
      name,
      learnt: valid.after,
      forgot: general.after,
      known: general.before,
    })),
  );
  return {
    data: { values },
    facet: { column: { field: "domain", title: null, sort: Object.values(TEXT) } },
    resolve: { scale: { x: "independent", y: "independent" } },
    spec: {
      width: 280,
      height: 260,
      layer: [
        {
          mark: { type: "rule", strokeDash: [4, 4], color: "#7F7F7F" },
          encoding: { y: { aggregate: "mean", field: "known", ...numbers } },
        },
        {
          mark: { type: "point", filled: true, size: 70, opacity: 0.85 },
          encoding: {
            x: { field: "learnt", ...numbers, title: LEARNT },
            y: { field: "forgot", ...numbers, title: FORGOT },
            color: { field: "name", type: "nominal", title: null },
            shape: { field: "name", type: "nominal", title: null },
          },
        },
      ],
    },
  };
}

/** Loss on code by rank, a point a seed; the lines are means. */
function rank(results: Results): TopLevelSpec {
  const of = (name: string, r: number) =>
    seedsOf(results, name).map(({ lr, valid }) => ({ r, kind: `rate ${lr}`, loss: valid.after }));
  const values = [
    ...[1, 4, 16, 64].flatMap((r) => of(`rank/${r}`, r)),
    ...of("main/far-lora", 8),
    ...of("rank/64-slow", 64),
  ];
  const full = seedsOf(results, "main/far-full").map(({ valid }) => ({
    kind: "full fine-tuning",
    loss: valid.after,
  }));
  const x = {
    field: "r",
    type: "quantitative",
    scale: { type: "log", base: 2 },
    title: "rank r (alpha = 2r)",
  } as const;
  const y = { field: "loss", ...numbers, title: LEARNT } as const;
  const color = { field: "kind", type: "nominal", title: null, sort: null } as const;
  return {
    width: 420,
    height: 260,
    layer: [
      {
        data: { values },
        layer: [
          { mark: { type: "point", filled: true, size: 50 }, encoding: { x, y, color } },
          { mark: "line", encoding: { x, y: { ...y, aggregate: "mean" }, color } },
        ],
      },
      {
        data: { values: full },
        mark: { type: "rule", strokeDash: [4, 4] },
        encoding: { y: { ...y, aggregate: "mean" }, color },
      },
    ],
  };
}

/** Loss by alpha and learning rate. */
function sensitivity(results: Results): TopLevelSpec {
  const values = [4, 16, 64].flatMap((alpha) =>
    RATES.lora.map((lr) => {
      const id = `sensitivity/alpha-${alpha}-lr-${lr}`;
      return { alpha, lr, loss: results.get(id)?.valid.after };
    }),
  );
  return {
    data: { values: values.filter(({ loss }) => loss !== undefined) },
    width: 320,
    height: 180,
    encoding: {
      x: { field: "lr", type: "ordinal", title: "learning rate" },
      y: { field: "alpha", type: "ordinal", title: "alpha (r 8)", sort: "descending" },
    },
    layer: [
      {
        mark: "rect",
        encoding: {
          color: {
            field: "loss",
            type: "quantitative",
            title: "loss",
            scale: { scheme: "viridis", reverse: true, domainMax: 2.6, clamp: true },
          },
        },
      },
      {
        mark: { type: "text", fontSize: 13, stroke: "white", strokeWidth: 3, strokeJoin: "round" },
        encoding: { text: { field: "loss", type: "quantitative", format: ".3f" } },
      },
      {
        mark: { type: "text", fontSize: 13 },
        encoding: { text: { field: "loss", type: "quantitative", format: ".3f" } },
      },
    ],
  };
}

/** Loss on code of each of a group's variants, a point a seed, the mark their mean. */
function bars(results: Results, group: Group): TopLevelSpec {
  const values = group.flatMap(([title, name]) =>
    seedsOf(results, name).map(({ valid }) => ({ title, loss: valid.after })),
  );
  const y = {
    field: "title",
    type: "nominal",
    title: null,
    sort: { field: "loss", op: "mean" },
    axis: { labelLimit: 0 },
  } as const;
  const x = { field: "loss", ...numbers, title: LEARNT } as const;
  return {
    data: { values },
    width: 420,
    height: { step: 30 },
    layer: [
      { mark: { type: "tick", thickness: 3 }, encoding: { x: { ...x, aggregate: "mean" }, y } },
      { mark: { type: "point", filled: true, opacity: 0.6 }, encoding: { x, y } },
    ],
  };
}

/** Held-out loss on the way, of runs that see ten thousand characters again and again. */
function small(results: Results): TopLevelSpec {
  const values = [0, 0.1, 0.3].flatMap((dropout) =>
    seedsOf(results, `small/dropout-${dropout}`).flatMap(({ curve }, seed) =>
      curve.map(({ step, loss }) => ({ step, loss, seed, dropout })),
    ),
  );
  return {
    data: { values },
    width: 420,
    height: 280,
    mark: { type: "line", point: true },
    encoding: {
      x: { field: "step", type: "quantitative", title: "training step" },
      y: { field: "loss", ...numbers, title: LEARNT },
      color: { field: "dropout", type: "nominal", title: "lora_dropout" },
      detail: { field: "seed" },
    },
  };
}
