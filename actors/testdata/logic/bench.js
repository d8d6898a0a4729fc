export default logic({
  name: 'bench-run', version: '1.0.0',
  run(message, context) {
    if (message.value < 0) return context.stop();
    return context.replace({ ...message, value: message.value * 1.8 + 32 });
  },
});
