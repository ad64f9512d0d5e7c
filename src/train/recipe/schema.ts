// TrainConfig: everything that a training run is asked, in the words of PEFT and Transformers.
import { z } from "zod";
import { BASE_DTYPES } from "../base_dtype.ts";

/** How a model is trained. */
export const METHODS = [
  "lora",
  "dora",
  "rslora",
  "lora+",
  "lora-fa",
  "pissa",
  "olora",
  "full",
] as const;
export type Method = (typeof METHODS)[number];

const COUNT = "a positive integer";
const NOT_NEGATIVE = "a number of at least 0";
const INTEGER = "an integer of at least 0";
const ABOVE = "a number above 0";
const SHARE = "a number between 0 and 1";
const PATHS = "a path, or a list of paths";

const count = z.int(COUNT).min(1, COUNT);
const integer = z.int(INTEGER).min(0, INTEGER);
const above = z.number(ABOVE).gt(0, ABOVE);
const notNegative = z.number(NOT_NEGATIVE).min(0, NOT_NEGATIVE);
const share = z.number(SHARE).gt(0, SHARE).lt(1, SHARE);
const flag = z.boolean("true or false");
const text = (what: string) => z.string(what).min(1, what);
const path = text("a path");
const word = <const T extends readonly string[]>(words: T) =>
  z.enum(words, `one of ${words.join(", ")}`);
const paths = z
  .union([path, z.array(path).min(1, PATHS)], PATHS)
  .transform((given) => (typeof given === "string" ? [given] : given));
const section = (what: string) => `a section with ${what}`;

const replay = z.strictObject(
  {
    /** A second, general data set, which is mixed in against forgetting. */
    data: paths.optional(),
    /** In its place, texts that the base draws from itself before training. */
    self: flag.default(false),
    /** How many of these at most, how they are drawn, and by which seed. */
    texts: count.default(256),
    temperature: above.default(1),
    seed: integer.default(0),
    /** A file that keeps them, which runs may share. Default: in the output folder. */
    file: path.optional(),
    /** Which share of the rows is its own. */
    share: share.default(0.25),
  },
  section("data or self, and share"),
);

const UP_TO_1 = "a number above 0 and at most 1";

const augment = z.strictObject(
  {
    /** Chance with which a token that is read becomes a random one. */
    token_dropout: share.optional(),
    /** Chance with which a text sees those before it in its packed row. */
    mixing: z.number(UP_TO_1).gt(0, UP_TO_1).max(1, UP_TO_1).optional(),
  },
  section("token_dropout, mixing"),
);

const data = z.strictObject(
  {
    /** Files and folders to train on. */
    train: paths,
    /** What is held out: a share, 0 for nothing, or files and folders of their own. Default: a tenth, where that is anything. */
    valid: z.union([share.or(z.literal(0)), paths], `${SHARE}, or ${PATHS}`).optional(),
    /** Chooses what is held out; not `seed`, so that runs of several seeds are compared on the same rows. */
    split_seed: integer.default(0),
    /** Text to look at what the model forgets on. */
    general: paths.optional(),
    /** Tokens that the model sees at once. Default: its context, at most 512. */
    length: count.optional(),
    /** What becomes of longer examples. `auto`: plain text is split, lines of JSONL are an error. */
    long: word(["auto", "error", "truncate", "drop", "split"]).default("auto"),
    learn: word(["completions", "all"]).default("completions"),
    turns: word(["all", "last"]).default("all"),
    /** Samples that cannot be used are counted, not an error. */
    skip_bad: flag.default(false),
    rows: word(["packed", "padded", "windows"]).default("packed"),
    /** Padded examples of about one length together, in batches no wider than they need. */
    bucketed: flag.default(false),
    replay: replay.optional(),
    /** A folder on a disk that keeps the tokens in place of memory: for data larger than memory. */
    spill: path.optional(),
    /** Changes of the rows that are trained on, drawn anew in each step. */
    augment: augment.optional(),
  },
  section("train, and perhaps valid, general, length, rows, replay, augment"),
);

const training = z.strictObject(
  {
    /** Optimiser steps; or epochs, default 3. */
    steps: count.optional(),
    epochs: above.optional(),
    /** Rows per micro-batch, and micro-batches per step. */
    batch: count.default(8),
    accumulate: count.default(1),
    /** `auto`: what a short range test finds. Default: 2e-4, and a tenth of it for `full`. */
    lr: z.union([above, z.literal("auto")], `${ABOVE}, or auto`).optional(),
    /** Steps, or where it is below 1 a share of all steps. */
    warmup: notNegative.default(0.03),
    schedule: word(["cosine", "linear", "constant"]).default("cosine"),
    weight_decay: notNegative.default(0),
    clip: above.default(1),
    /** How many times faster than A B learns with lora+. */
    loraplus_lr_ratio: z
      .number("a number of at least 1")
      .min(1, "a number of at least 1")
      .optional(),
    /** Steps between looks at what is held out. Default: a tenth of all steps, or fewer looks that take half as long as the steps. */
    eval_every: count.optional(),
    /** Rows of each held-out set per look. */
    eval_rows: count.default(64),
    /** Looks without a new lowest loss after which training ends. The best look's weights are kept. */
    patience: count.optional(),
    min_delta: notNegative.default(0),
    on_non_finite: word(["stop", "skip"]).default("stop"),
    /** Steps between checkpoints; 0: none. Default: `eval_every`. */
    checkpoint_every: integer.optional(),
    /** A limit of time. What there is then is saved; `resume` goes on. */
    seconds: above.optional(),
    capture: flag.optional(),
    /** Less memory for more time: of each layer its input alone is kept, and the layer is computed again in backward. */
    gradient_checkpointing: flag.default(false),
  },
  section("steps or epochs, batch, lr and so on"),
);

export const schema = z.strictObject(
  {
    /** A folder with config.json, or `org/name` of the hub. */
    model: text("a folder, or org/name of the hub"),
    /** A folder with tokenizer.json, or `bytes`. Default: the model's own. */
    tokenizer: text("a folder, or bytes").optional(),
    /** Gets run.json, metrics.jsonl, adapter/ or model/, checkpoint/. */
    output: path,
    /** Of the adapter's first values, dropout and the order of rows. */
    seed: integer.default(0),
    method: word(METHODS).default("lora"),
    /** What the frozen base is held as. `auto`: as it is stored. */
    base_dtype: word(BASE_DTYPES).default("auto"),
    /** PEFT's LoraConfig. Default: r 16, lora_alpha 2r, all linear layers. */
    lora: z.record(z.string(), z.unknown(), section("PEFT's fields, such as r")).default({}),
    data,
    training: training.prefault({}),
    /** Go on from the output's checkpoint. */
    resume: z.union([flag, z.literal("if-present")], "true, false or if-present").default(false),
  },
  section("model, output, data, training, lora"),
);

/** A configuration as it is written: what has a default may be absent. */
export type TrainConfig = z.input<typeof schema>;
/** The same with its defaults. */
export type FullConfig = z.output<typeof schema>;

/** The keys that a configuration may have at a path; none where it is no section. */
export function keysAt(keys: readonly PropertyKey[], root: z.core.$ZodType = schema): string[] {
  let at = root;
  for (const key of keys) {
    const { shape } = unwrapped(at) as unknown as { shape?: Record<string, z.core.$ZodType> };
    const next = shape?.[String(key)];
    if (!next) return [];
    at = next;
  }
  const { shape = {} } = unwrapped(at) as unknown as { shape?: object };
  return Object.keys(shape);
}

/** A schema without what says that its value may be absent. */
function unwrapped(type: z.core.$ZodType): z.core.$ZodType {
  const { innerType } = type._zod.def as { innerType?: z.core.$ZodType };
  return innerType ? unwrapped(innerType) : type;
}

/** The dotted paths of all keys, sections left out. */
export function allKeys(keys: readonly string[] = []): string[] {
  const children = keysAt(keys);
  return children.length === 0 ? [keys.join(".")] : children.flatMap((k) => allKeys([...keys, k]));
}
