const WORDS = {
  connecting: ["connecting", "连接中"],
  live: ["live", "实时"],
  unready: ["not ready", "未就绪"],
  lost: ["connection lost", "连接已断开"],
  lost_long: ["The connection to the server was lost. What stands here is from {0}; trying again.", "与服务器的连接已断开。以下为 {0} 的状态，正在重试。"],
  not_ready: ["Not ready: {0}", "尚未就绪：{0}"],
  docs: ["interface", "接口文档"],
  summary: ["GPUs: {0} · nodes: {1}", "{1} 个节点，共 {0} 块 GPU"],
  free: ["free", "空闲"],
  held: ["held", "已分配"],
  foreign: ["used by others", "被其他程序占用"],
  ill: ["ill", "故障"],
  waiting: ["waiting", "排队"],
  busy: ["utilisation", "利用率"],
  memory: ["memory", "显存"],
  free_of: ["free of {0}", "空闲 / 共 {0}"],
  use: ["Use over time", "使用趋势"],
  chart_held: ["held", "已分配"],
  hour: ["1 h", "1 小时"],
  day: ["24 h", "24 小时"],
  week: ["7 d", "7 天"],
  waits: ["In line", "排队中"],
  owner: ["owner", "使用者"],
  asks: ["asks for", "申请"],
  asked: ["asked for", "申请"],
  priority: ["priority", "优先级"],
  waited: ["waiting for", "已等待"],
  patience: ["patience left", "剩余等待"],
  nodes: ["Nodes", "节点"],
  shown: ["{0} of {1}", "{0} / {1}"],
  search: ["Search node, owner, GPU, trouble …", "搜索节点、使用者、型号、故障……"],
  all: ["all", "全部"],
  sort: ["sort by", "排序"],
  by_name: ["name", "名称"],
  by_free: ["most free", "空闲最多"],
  by_busy: ["busiest", "最忙"],
  by_trouble: ["trouble first", "故障优先"],
  allocations: ["Allocations", "分配"],
  cards: ["GPUs", "GPU"],
  since: ["since", "开始于"],
  lease: ["lease left", "租约剩余"],
  id: ["id", "编号"],
  nobody: ["nobody holds a GPU", "目前没有分配"],
  nothing: ["nothing matches", "没有匹配项"],
  more: ["show all {0}", "显示全部 {0} 项"],
  temperature: ["temperature", "温度"],
  power: ["power", "功耗"],
  clock: ["clock", "频率"],
  xid: ["last error (XID)", "最近错误 (XID)"],
  processes: ["processes", "进程"],
  none: ["none", "无"],
  nameless: ["(no name)", "（未署名）"],
  token: ["A token is needed", "需要令牌"],
  token_kept: ["It stays in this tab alone.", "仅保存在当前标签页中。"],
  token_wrong: ["This token was refused.", "该令牌被拒绝。"],
  token_name: ["Token", "令牌"],
  enter: ["Enter", "进入"],
};
const root = document.documentElement;

const word = (key, ...facts) =>
  facts.reduce((text, fact, number) => text.replaceAll(`{${number}}`, fact), WORDS[key][root.lang === "zh" ? 1 : 0]);

function speak() {
  for (const one of document.querySelectorAll("[data-word]")) one.textContent = word(one.dataset.word);
  document.getElementById("search").placeholder = word("search");
  document.getElementById("search").setAttribute("aria-label", word("search"));
}

const percent = (share) => (share === null || share === undefined ? "–" : `${Math.round(share * 100)} %`);
const whole = (number) => number.toLocaleString(root.lang);

function span(seconds) {
  const all = Math.max(0, Math.round(seconds));
  const pad = (number) => String(number).padStart(2, "0");
  const [days, hours, minutes] = [Math.floor(all / 86400), Math.floor(all / 3600) % 24, Math.floor(all / 60) % 60];
  if (days) return root.lang === "zh" ? `${days} 天 ${hours} 小时` : `${days} d ${hours} h`;
  return hours ? `${hours}:${pad(minutes)}:${pad(all % 60)}` : `${minutes}:${pad(all % 60)}`;
}

const clock = (unix, exact = false) => {
  const date = new Date(unix * 1000);
  const old = Date.now() - date > 43200e3;
  return date.toLocaleString(root.lang, { ...(old && { month: "short", day: "numeric" }), hour: "2-digit", minute: "2-digit", ...(exact && { second: "2-digit" }), hourCycle: "h23" });
};
