// The settings that are suggested, each with its reason. Figures "in the study" are those of docs/study.
import { usualRate } from "../recipe/method.ts";
import type { FullConfig } from "../recipe/schema.ts";
import type { DataFacts } from "./data_facts.ts";

/** A setting by its dotted path. */
export interface Choice {
  key: string;
  value: unknown;
  why: string;
}

/** Up to how many parameters a model counts as small, for which the usual rates are not. */
const SMALL_MODEL = 1e9;
const USUAL_LENGTH = 512;
const USUAL_BATCH = 8;
const USUAL_EPOCHS = 3;
/** A text gives at least so many rows, an epoch so many steps, and a run so many; rows and epochs end here. */
const LEAST = { rows: 32, stepsOfEpoch: 10, steps: 100, length: 32 };
const MOST_EPOCHS = 20;

/** r, alpha and layers of an adapter; none for full fine-tuning. */
export function adapterChoices({ method, lora }: Pick<FullConfig, "method" | "lora">): Choice[] {
  if (method === "full") return [];
  const { r = 16 } = lora as { r?: number };
  return [
    {
      key: "lora.r",
      value: r,
      why: "the usual start; in the study r 8 reached 88 % and r 16 89 % of what full fine-tuning learnt",
    },
    {
      key: "lora.lora_alpha",
      value: 2 * Number(r),
      why: "2r; alpha and rate are nearly one knob, so tune the rate",
    },
    {
      key: "lora.target_modules",
      value: "all-linear",
      why: "learns more than attention alone, also with as many parameters",
    },
    {
      key: "lora.lora_dropout",
      value: 0,
      why: "in the study dropout slowed overfitting and did not lower the best loss; early stopping does its work",
    },
  ];
}

/** Tokens per row, and what becomes of samples that do not fit. */
export function lengthChoices(
  { tokens, longest }: DataFacts,
  areTexts: boolean,
  context: number,
): Choice[] {
  const key = "data.length";
  if (areTexts) {
    let value = Math.min(context, USUAL_LENGTH);
    const most = value;
    while (value / 2 >= LEAST.length && tokens < LEAST.rows * value) value = Math.floor(value / 2);
    const why =
      value < most
        ? `shorter than the usual ${most}, so that ${tokens} tokens give some rows`
        : value === context
          ? "the model's context"
          : "the usual; a longer row takes more memory and is only needed where text far back matters";
    return [{ key, value, why }];
  }
  const needed = Math.max(1, longest - 1); // the last token is only learnt
  const whole = 2 ** Math.ceil(Math.log2(Math.max(LEAST.length, needed)));
  if (needed <= context) {
    const why = `holds the longest sample, ${longest} tokens; short ones share a row`;
    return [{ key, value: Math.min(whole, context), why }];
  }
  return [
    { key, value: context, why: `the model's context; the longest sample has ${longest} tokens` },
    {
      key: "data.long",
      value: "truncate",
      why: "samples longer than the context keep their beginning",
    },
  ];
}

/** Rows at once, and passes over the data. */
export function stepChoices(rows: number, isHeldOut: boolean): Choice[] {
  let batch = USUAL_BATCH;
  while (batch > 1 && rows < LEAST.stepsOfEpoch * batch) batch /= 2;
  const steps = Math.ceil((USUAL_EPOCHS * rows) / batch);
  const enough = Math.min(MOST_EPOCHS, Math.ceil((LEAST.steps * batch) / rows));
  const epochs = isHeldOut && steps < LEAST.steps ? enough : USUAL_EPOCHS;
  return [
    {
      key: "training.batch",
      value: batch,
      why:
        batch < USUAL_BATCH
          ? `so that an epoch of ${rows} rows has some steps`
          : "adapters lose more than full fine-tuning does where batches are large",
    },
    {
      key: "training.epochs",
      value: epochs,
      why:
        epochs > USUAL_EPOCHS
          ? "about a hundred steps, for the data is small; patience ends it sooner"
          : "the usual; more often learns by heart",
    },
  ];
}

/** The learning rate: by the rule of ten for large models, found by a test for small ones. */
export function rateChoice(method: FullConfig["method"], parameters: number): Choice {
  const key = "training.lr";
  const usual = usualRate(method);
  const rule = "an adapter's best rate is about ten times that of full fine-tuning";
  if (parameters >= SMALL_MODEL) {
    return { key, value: usual, why: `the usual for models of billions of parameters; ${rule}` };
  }
  const why = `a short test finds it, for the usual ${usual} is that of models of billions of parameters; ${rule}`;
  return { key, value: "auto", why };
}

/** How often to look, and when to stop. */
export function lookChoices(steps: number, isAmple: boolean): Choice[] {
  const every = Math.max(1, Math.ceil(steps / (isAmple ? 20 : 10)));
  return [
    {
      key: "training.eval_every",
      value: every,
      why: isAmple
        ? "a twentieth of all steps: where data is small the best look comes early"
        : "a tenth of all steps",
    },
    {
      key: "training.patience",
      value: 3,
      why: "ends after three looks without a lower loss; the best look's weights are kept",
    },
  ];
}
